// The common Go libraries as clients of a broker: each prints `live`, and then the data of each event, once, in order.
//
//	clients LIBRARY ws://HOST:PORT http://HOST:PORT
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

var clients = map[string]func(base string, p *place){
	"gorilla": gorilla, "coder": coder, "gws": lxzan, "gobwas": gobwas,
	"r3labs": r3labs, "tmaxmax": tmaxmax, "launchdarkly": launchDarkly,
}

func main() {
	client, base := clients[os.Args[1]], os.Args[2]
	if os.Args[1] == "r3labs" || os.Args[1] == "tmaxmax" || os.Args[1] == "launchdarkly" {
		base = os.Args[3]
	}
	told := false
	client(base, &place{
		handle: func(data json.RawMessage) { fmt.Println(string(data)) },
		live: func() {
			if !told {
				told = true
				fmt.Println("live")
			}
		},
	})
}
