// The test services' HTTP API on net/http: server PORT, server tcp ADDRESS or server unix PATH.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

var (
	lock      sync.Mutex
	counts    = map[string]int{}
	durations = []int64{}
	piece     = make([]byte, 64<<10)
	upstream  = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
)

// recorder keeps the status that a handler answered with.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func recorded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		recorder := &recorder{w, http.StatusOK}
		next.ServeHTTP(recorder, r)
		delay := strings.HasPrefix(r.URL.Path, "/delay/")
		if delay {
			// What the handler wrote leaves a buffer only after its return, unless flushed: then it is measured.
			_ = http.NewResponseController(w).Flush()
		}
		took := time.Since(begin)
		lock.Lock()
		defer lock.Unlock()
		counts[strconv.Itoa(recorder.status)]++
		if delay {
			durations = append(durations, took.Nanoseconds())
		}
	})
}

func number(r *http.Request, name string) int {
	n, err := strconv.Atoi(r.PathValue(name))
	if err != nil {
		log.Panicf("%s: %v", r.URL, err)
	}
	return n
}

func body(w io.Writer, size int) {
	for ; size > 0; size -= min(size, len(piece)) {
		if _, err := w.Write(piece[:min(size, len(piece))]); err != nil {
			log.Panic(err)
		}
	}
}

func reply(w http.ResponseWriter, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		log.Panic(err)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text)
}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(number(r, "code"))
	})
	mux.HandleFunc("/delay/{ms}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(number(r, "ms")) * time.Millisecond)
		reply(w, map[string]int{})
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		size, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			log.Panic(err)
		}
		reply(w, map[string]int64{"size": size})
	})
	mux.HandleFunc("/bytes/{size}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", r.PathValue("size"))
		if r.Method != http.MethodHead {
			body(w, number(r, "size"))
		}
	})
	mux.HandleFunc("/chunked/{size}", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		body(w, number(r, "size"))
	})
	mux.HandleFunc("/users/{user}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]int{"user": number(r, "user")})
	})
	mux.HandleFunc("/proxy", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		answer, err := upstream.Get(fmt.Sprintf("http://127.0.0.1:%s%s", query.Get("port"), query.Get("path")))
		if err != nil {
			log.Panic(err)
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	})
	top := http.NewServeMux()
	top.Handle("/", recorded(mux))
	top.Handle("/ws/{room}", websocket.Handler(func(connection *websocket.Conn) {
		_, _ = io.Copy(connection, connection)
	}))
	top.HandleFunc("/counts", func(w http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		reply(w, counts)
	})
	top.HandleFunc("/durations", func(w http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		reply(w, durations)
	})
	network, address := "tcp", "127.0.0.1:"+os.Args[1]
	if len(os.Args) > 2 {
		network, address = os.Args[1], os.Args[2]
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening")
	log.Fatal(http.Serve(listener, top))
}
