// Package count counts operations by what they were.
package count

import (
	"encoding/json"
	"log"
	"os"
	"sync"
)

var (
	lock   sync.Mutex
	counts = map[string]int{}
)

// Add counts number operations.
func Add(operation string, number int) {
	lock.Lock()
	defer lock.Unlock()
	counts[operation] += number
}

// Report prints the counts as JSON.
func Report() {
	if err := json.NewEncoder(os.Stdout).Encode(counts); err != nil {
		log.Fatal(err)
	}
}
