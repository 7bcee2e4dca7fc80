// gRPC peer without generated code: `grpc server PORT` or `grpc client PORT MODE COUNT`. Methods, modes and what a
// request says are those of tests/src/grpc.rs.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const service = "redwire.test.Peer"

// raw sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "raw" }

func numbers(message []byte) (code codes.Code, count int) {
	var number int
	if _, err := fmt.Sscan(string(message), &number, &count); err != nil {
		log.Fatal(err)
	}
	return codes.Code(number), count
}

func settle(code codes.Code) error {
	if code == codes.OK {
		return nil
	}
	return status.Error(code, "as asked")
}

func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	code, _ := numbers(request)
	return &request, settle(code)
}

func collect(_ any, stream grpc.ServerStream) error {
	for count := 0; ; count++ {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			answer := []byte(strconv.Itoa(count))
			return stream.SendMsg(&answer)
		} else if err != nil {
			return err
		}
	}
}

func stream(_ any, stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	code, count := numbers(request)
	for range count {
		if err := stream.SendMsg(&request); err != nil {
			return err
		}
	}
	return settle(code)
}

func echo(_ any, stream grpc.ServerStream) error {
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

func slow(_ any, stream grpc.ServerStream) error {
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	if err := stream.SendMsg(&request); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return stream.Context().Err()
	case <-time.After(20 * time.Second):
		return nil
	}
}

func serve(port string) {
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Collect", Handler: collect, ClientStreams: true},
			{StreamName: "Stream", Handler: stream, ServerStreams: true},
			{StreamName: "Echo", Handler: echo, ClientStreams: true, ServerStreams: true},
			{StreamName: "Slow", Handler: slow, ServerStreams: true},
		},
	}, struct{}{})
	log.Fatal(server.Serve(listener))
}

type client struct {
	connection *grpc.ClientConn
	lock       sync.Mutex
	counts     map[string]int
}

func (c *client) done(method string, err error) {
	names := []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
		"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
		"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.counts[method+" "+names[status.Code(err)]]++
}

func (c *client) unary(method, request string) {
	message, answer := []byte(request), []byte{}
	c.done(method, c.connection.Invoke(context.Background(), "/"+service+"/"+method, &message, &answer))
}

// call sends request messages times, and reads to the end; after each answer, each is called.
func (c *client) call(context context.Context, method, request string, messages int, each func()) {
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := c.connection.NewStream(context, desc, "/"+service+"/"+method)
	if err != nil {
		c.done(method, err)
		return
	}
	go func() {
		message := []byte(request)
		for range messages {
			if stream.SendMsg(&message) != nil {
				return
			}
		}
		_ = stream.CloseSend()
	}()
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			if err == io.EOF {
				err = nil
			}
			c.done(method, err)
			return
		}
		each()
	}
}

func (c *client) one(i int) {
	background, nothing := context.Background(), func() {}
	switch i % 10 {
	case 3:
		c.unary("Unary", "5 0")
	case 4:
		c.unary("Unary", "13 0")
	case 5:
		c.call(background, "Collect", "0 0", 3, nothing)
	case 6:
		c.call(background, "Stream", "0 5", 1, nothing)
	case 7:
		c.call(background, "Echo", "0 0", 4, nothing)
	case 8:
		c.call(background, "Stream", "10 2", 1, nothing)
	case 9:
		c.unary("Missing", "0 0")
	default:
		c.unary("Unary", "0 0")
	}
}

func run(port, mode string, count int) {
	connection, err := grpc.NewClient("passthrough:///127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})), grpc.WithNoProxy())
	if err != nil {
		log.Fatal(err)
	}
	c := &client{connection: connection, counts: map[string]int{}}
	workers := 8
	if mode == "long" || mode == "paced" {
		workers = 1
	}
	modes := map[string]func(int){
		"mix":   c.one,
		"paced": func(i int) { c.one(i); time.Sleep(2 * time.Millisecond) },
		"long":  func(int) { c.call(context.Background(), "Echo", "0 0", 20_000, func() {}) },
		"cancel": func(int) {
			context, cancel := context.WithCancel(context.Background())
			c.call(context, "Slow", "0 0", 1, cancel)
		},
		"deadline": func(int) {
			context, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
			defer cancel()
			c.call(context, "Slow", "0 0", 1, func() {})
		},
	}
	work := make(chan int)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range work {
				modes[mode](i)
			}
		})
	}
	for i := range count {
		work <- i
	}
	close(work)
	group.Wait()
	_ = connection.Close()
	if err := json.NewEncoder(os.Stdout).Encode(c.counts); err != nil {
		log.Fatal(err)
	}
}

func main() {
	if os.Args[1] == "server" {
		serve(os.Args[2])
		return
	}
	count, err := strconv.Atoi(os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	run(os.Args[2], os.Args[3], count)
}
