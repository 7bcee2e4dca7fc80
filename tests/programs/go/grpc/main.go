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
	"google.golang.org/grpc/metadata"
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

// tell answers the metadata of a call that churns with the same.
func tell(context context.Context, set func(metadata.MD) error) error {
	if churn := metadata.ValueFromIncomingContext(context, "x-churn"); len(churn) > 0 {
		return set(metadata.Pairs("x-churn", churn[0]))
	}
	return nil
}

func unary(_ any, context context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request []byte
	if err := decode(&request); err != nil {
		return nil, err
	}
	code, _ := numbers(request)
	if err := tell(context, func(pairs metadata.MD) error { return grpc.SetHeader(context, pairs) }); err != nil {
		return nil, err
	}
	return &request, settle(code)
}

func collect(_ any, stream grpc.ServerStream) error {
	if err := tell(stream.Context(), stream.SetHeader); err != nil {
		return err
	}
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
	if err := tell(stream.Context(), stream.SetHeader); err != nil {
		return err
	}
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
	if err := tell(stream.Context(), stream.SetHeader); err != nil {
		return err
	}
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

func (c *client) unary(context context.Context, method, request string) {
	message, answer := []byte(request), []byte{}
	c.done(method, c.connection.Invoke(context, "/"+service+"/"+method, &message, &answer))
}

// call sends request messages times, with a pause after each, and reads to the end; after each answer, each is called.
func (c *client) call(context context.Context, method, request string, messages int, pause time.Duration, each func()) {
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
			time.Sleep(pause)
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

func (c *client) one(context context.Context, i int) {
	nothing := func() {}
	switch i % 10 {
	case 3:
		c.unary(context, "Unary", "5 0")
	case 4:
		c.unary(context, "Unary", "13 0")
	case 5:
		c.call(context, "Collect", "0 0", 3, 0, nothing)
	case 6:
		c.call(context, "Stream", "0 5", 1, 0, nothing)
	case 7:
		c.call(context, "Echo", "0 0", 4, 0, nothing)
	case 8:
		c.call(context, "Stream", "10 2", 1, 0, nothing)
	case 9:
		c.unary(context, "Missing", "0 0")
	default:
		c.unary(context, "Unary", "0 0")
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
	switch mode {
	case "long", "drip", "paced", "churn":
		workers = 1
	}
	background, nothing := context.Background(), func() {}
	paced := func(context context.Context, i int) {
		c.one(context, i)
		time.Sleep(2 * time.Millisecond)
	}
	modes := map[string]func(int){
		"mix":   func(i int) { c.one(background, i) },
		"paced": func(i int) { paced(background, i) },
		"churn": func(i int) {
			paced(metadata.AppendToOutgoingContext(background, "x-churn", fmt.Sprintf("%0100d", i)), i)
		},
		"long": func(int) { c.call(background, "Echo", "0 0", 20_000, 0, nothing) },
		"drip": func(int) { c.call(background, "Echo", "0 0", 600, 10*time.Millisecond, nothing) },
		"cancel": func(int) {
			context, cancel := context.WithCancel(background)
			c.call(context, "Slow", "0 0", 1, 0, cancel)
		},
		"patient": func(int) {
			context, cancel := context.WithTimeout(background, 10*time.Second)
			c.call(context, "Slow", "0 0", 1, 0, func() {
				time.Sleep(50 * time.Millisecond)
				cancel()
			})
		},
		"deadline": func(int) {
			context, cancel := context.WithTimeout(background, 150*time.Millisecond)
			defer cancel()
			c.call(context, "Slow", "0 0", 1, 0, nothing)
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
	// Resets of calls that were cancelled are on their way.
	time.Sleep(300 * time.Millisecond)
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
