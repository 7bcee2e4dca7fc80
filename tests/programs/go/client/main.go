// Load with an exact count: prints the count of its responses by status as JSON.
//
//	client send URL COUNT MIX        one after another; MIX: a JSON list of [method, path, body size];
//	                                 a body to a path with the query `chunked` goes in chunks
//	client trace URL COUNT PATH      one after another, each with a trace of its own
//	client pipeline URL COUNT DEPTH MIX
//	client hold URL CONNECTIONS COUNT PATH   COUNT requests on each of CONNECTIONS, all open at the same time
//	client websocket URL SESSIONS COUNT PATH COUNT messages to and fro in each of SESSIONS, all open until a line comes
//	client pace URL RATE SECONDS MIX         RATE requests per second
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

// request is one element of a mix.
type request struct {
	method, path string
	size         int
}

func (r *request) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&r.method, &r.path, &r.size})
}

func (r request) new(url string) *http.Request {
	var body io.Reader
	if r.size > 0 {
		body = strings.NewReader(strings.Repeat("x", r.size))
		if strings.HasSuffix(r.path, "?chunked") {
			// Of a reader whose length net/http does not know.
			body = io.MultiReader(body)
		}
	}
	request, err := http.NewRequest(r.method, url+r.path, body)
	if err != nil {
		log.Fatal(err)
	}
	return request
}

// counter counts responses by status.
type counter struct {
	lock   sync.Mutex
	counts map[string]int
}

func (c *counter) add(status int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.counts[strconv.Itoa(status)]++
}

// finish reads the response's body, and counts it.
func (c *counter) finish(response *http.Response) {
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		log.Fatal(err)
	}
	_ = response.Body.Close()
	c.add(response.StatusCode)
}

func (c *counter) do(client *http.Client, request *http.Request) {
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	c.finish(response)
}

func integer(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func mix(text string) []request {
	var requests []request
	if err := json.Unmarshal([]byte(text), &requests); err != nil {
		log.Fatal(err)
	}
	return requests
}

func send(counts *counter, url string, count int, mix []request) {
	for i := range count {
		counts.do(http.DefaultClient, mix[i%len(mix)].new(url))
	}
}

func trace(counts *counter, url string, count int, path string) {
	for range count {
		request := request{method: "GET", path: path}.new(url)
		request.Header.Set("traceparent", fmt.Sprintf("00-%016x%016x-%016x-01", rand.Uint64(), rand.Uint64()|1, rand.Uint64()|1))
		counts.do(http.DefaultClient, request)
	}
}

func dial(url string) net.Conn {
	connection, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		log.Fatal(err)
	}
	return connection
}

// pipeline keeps depth requests under way on one connection.
func pipeline(counts *counter, url string, count, depth int, mix []request) {
	connection := dial(url)
	reader := bufio.NewReader(connection)
	for sent := 0; sent < count; {
		var requests []*http.Request
		writer := bufio.NewWriterSize(connection, 1<<20)
		for ; sent < count && len(requests) < depth; sent++ {
			request := mix[sent%len(mix)].new(url)
			if err := request.Write(writer); err != nil {
				log.Fatal(err)
			}
			requests = append(requests, request)
		}
		if err := writer.Flush(); err != nil {
			log.Fatal(err)
		}
		for _, request := range requests {
			response, err := http.ReadResponse(reader, request)
			if err != nil {
				log.Fatal(err)
			}
			counts.finish(response)
		}
	}
	_ = connection.Close()
}

// hold opens all connections, then sends count requests on each, round after round.
func hold(counts *counter, url string, connections, count int, path string) {
	var opened []net.Conn
	var readers []*bufio.Reader
	for range connections {
		connection := dial(url)
		opened = append(opened, connection)
		readers = append(readers, bufio.NewReader(connection))
	}
	for range count {
		for i, connection := range opened {
			request := request{method: "GET", path: path}.new(url)
			if err := request.Write(connection); err != nil {
				log.Fatal(err)
			}
			response, err := http.ReadResponse(readers[i], request)
			if err != nil {
				log.Fatal(err)
			}
			counts.finish(response)
		}
	}
	for _, connection := range opened {
		_ = connection.Close()
	}
}

// sockets opens all sessions, has COUNT messages come back in each, prints "ready" and waits for a line.
func sockets(counts *counter, url string, sessions, count int, path string) {
	var opened []*websocket.Conn
	for range sessions {
		session, err := websocket.Dial(strings.Replace(url, "http", "ws", 1)+path, "", url)
		if err != nil {
			log.Fatal(err)
		}
		counts.add(http.StatusSwitchingProtocols)
		opened = append(opened, session)
	}
	for range count {
		for _, session := range opened {
			message := strings.Repeat("x", 1000)
			if err := websocket.Message.Send(session, message); err != nil {
				log.Fatal(err)
			}
			if err := websocket.Message.Receive(session, &message); err != nil {
				log.Fatal(err)
			}
		}
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	for _, session := range opened {
		_ = session.Close()
	}
}

func pace(counts *counter, url string, rate, seconds int, mix []request) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	var group sync.WaitGroup
	for i := range rate * seconds {
		<-ticker.C
		group.Go(func() { counts.do(client, mix[i%len(mix)].new(url)) })
	}
	group.Wait()
}

func main() {
	counts := &counter{counts: map[string]int{}}
	mode, url, arguments := os.Args[1], os.Args[2], os.Args[3:]
	switch mode {
	case "send":
		send(counts, url, integer(arguments[0]), mix(arguments[1]))
	case "trace":
		trace(counts, url, integer(arguments[0]), arguments[1])
	case "pipeline":
		pipeline(counts, url, integer(arguments[0]), integer(arguments[1]), mix(arguments[2]))
	case "hold":
		hold(counts, url, integer(arguments[0]), integer(arguments[1]), arguments[2])
	case "websocket":
		sockets(counts, url, integer(arguments[0]), integer(arguments[1]), arguments[2])
	case "pace":
		pace(counts, url, integer(arguments[0]), integer(arguments[1]), mix(arguments[2]))
	default:
		log.Fatalf("unknown mode %q", mode)
	}
	if err := json.NewEncoder(os.Stdout).Encode(counts.counts); err != nil {
		log.Fatal(err)
	}
}
