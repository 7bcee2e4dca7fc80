// Publishes with confirms, consumes with manual, multiple and automatic acknowledgement, by amqp091-go. Arguments: port,
// password, how many messages. Counts as "operation outcome error".
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
	"redwire.test/programs/count"
)

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func publish(channel *amqp.Channel, queue string, messages int) {
	var confirms []*amqp.DeferredConfirmation
	for i := range messages {
		message := amqp.Publishing{MessageId: strconv.Itoa(i), Body: []byte("planted-secret-7be2a9")}
		confirms = append(confirms, must(channel.PublishWithDeferredConfirm("", queue, false, false, message)))
	}
	for _, confirm := range confirms {
		must(confirm.WaitContext(context.Background()))
	}
	count.Add("publish ack -", messages)
}

func main() {
	messages := must(strconv.Atoi(os.Args[3]))
	connection := must(amqp.Dial(fmt.Sprintf("amqp://guest:%s@127.0.0.1:%s/", os.Args[2], os.Args[1])))
	channel := must(connection.Channel())
	check(channel.Confirm(false))
	count.Add("confirm.select - -", 1)
	check(channel.Qos(100, 0, false))
	count.Add("basic.qos - -", 1)
	for _, queue := range []string{"go-manual", "go-auto"} {
		must(channel.QueueDeclare(queue, false, true, false, false, nil))
		count.Add("queue.declare - -", 1)
	}
	manual := must(channel.Consume("go-manual", "go-manual-reader", false, false, false, false, nil))
	count.Add("basic.consume - -", 1)
	go publish(channel, "go-manual", messages)
	for seen := 1; seen <= messages; seen++ {
		delivery := <-manual
		// One for ten, then one for each of ten.
		if seen/10%2 == 1 {
			check(delivery.Ack(false))
		} else if seen%10 == 9 || seen == messages {
			check(delivery.Ack(true))
		}
	}
	count.Add("deliver ack -", messages)
	check(channel.Cancel("go-manual-reader", false))
	count.Add("basic.cancel - -", 1)

	auto := must(channel.Consume("go-auto", "go-auto-reader", true, false, false, false, nil))
	count.Add("basic.consume - -", 1)
	publish(channel, "go-auto", messages/10)
	for range messages / 10 {
		<-auto
	}
	count.Add("deliver auto -", messages/10)
	if _, found, err := channel.Get("go-auto", true); err != nil || found {
		log.Fatal(found, err)
	}
	count.Add("get - -", 1)
	check(channel.Cancel("go-auto-reader", false))
	count.Add("basic.cancel - -", 1)
	check(connection.Close())
	count.Report()
}
