// A net/http server that speaks HTTP/1.1, HTTP/2 by prior knowledge, and Upgrade: h2c: `h2c PORT`.
// It answers /status/CODE, /bytes/SIZE and /upload; /counts says how many of each status it answered.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

var (
	lock   sync.Mutex
	counts = map[string]int{}
)

func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/counts" {
		lock.Lock()
		defer lock.Unlock()
		_ = json.NewEncoder(w).Encode(counts)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	status, size := http.StatusOK, 0
	if code, is := strings.CutPrefix(r.URL.Path, "/status/"); is {
		status, _ = strconv.Atoi(code)
	}
	if bytes, is := strings.CutPrefix(r.URL.Path, "/bytes/"); is {
		size, _ = strconv.Atoi(bytes)
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(make([]byte, size))
	}
	lock.Lock()
	defer lock.Unlock()
	counts[strconv.Itoa(status)]++
}

func main() {
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], h2c.NewHandler(http.HandlerFunc(answer), &http2.Server{})))
}
