// Commands by go-redis, RESP3: one at a time, in pipelines and transactions, from many goroutines. Arguments: how often,
// and the address.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"redwire.test/programs/count"
)

// hook counts what the client sends, its own greetings, too.
type hook struct{}

func (hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

func add(command redis.Cmder, err error) {
	name := strings.ToUpper(command.Name())
	if name == "CLIENT" {
		name += " " + strings.ToUpper(command.Args()[1].(string))
	}
	if err != nil && err != redis.Nil {
		name += " " + strings.SplitN(err.Error(), " ", 2)[0]
	}
	count.Add(name, 1)
}

func (hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, command redis.Cmder) error {
		err := next(ctx, command)
		add(command, err)
		return err
	}
}

func (hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		err := next(ctx, commands)
		for _, command := range commands {
			add(command, command.Err())
		}
		return err
	}
}

func check(err error) {
	if err != nil && err != redis.Nil {
		log.Fatal(err)
	}
}

func main() {
	rounds, err := strconv.Atoi(os.Args[1])
	check(err)
	context := context.Background()
	const connections = 4
	client := redis.NewClient(&redis.Options{Addr: os.Args[2], PoolSize: connections, DisableIdentity: true, Protocol: 2})
	client.AddHook(hook{})
	var group sync.WaitGroup
	for range connections {
		group.Go(func() {
			for i := range rounds {
				check(client.Set(context, "key", i, 0).Err())
				check(client.Get(context, "key").Err())
			}
		})
	}
	group.Wait()
	for i := 0; i < rounds; i += 100 {
		_, err := client.Pipelined(context, func(pipeline redis.Pipeliner) error {
			for n := range 100 {
				pipeline.HSet(context, "hash", strconv.Itoa(n), "planted-secret")
				pipeline.HGet(context, "hash", strconv.Itoa(n))
			}
			return nil
		})
		check(err)
	}
	for range 10 {
		_, err := client.TxPipelined(context, func(pipeline redis.Pipeliner) error {
			pipeline.Incr(context, "n")
			return nil
		})
		check(err)
	}
	_ = client.LPush(context, "key", "planted-secret").Err()
	check(client.Close())
	count.Report()
}
