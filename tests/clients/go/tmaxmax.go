package main

import (
	"net/http"
	"time"

	"github.com/tmaxmax/go-sse"
)

func tmaxmax(base string, p *place) {
	request, _ := http.NewRequest(http.MethodGet, base+"/v1/sse?topic=clients.%3E&format=data", nil)
	client := sse.Client{Backoff: sse.Backoff{MaxInterval: 5 * time.Second}}
	connection := client.NewConnection(request)
	connection.Buffer(nil, 1<<20) // 64 KiB otherwise
	connection.SubscribeMessages(func(event sse.Event) {
		if event.Data != "" { // blocks without data are handed out too
			p.handle([]byte(event.Data))
		}
	})
	connection.SubscribeEvent("fanfare.live", func(sse.Event) { p.live() })
	// Comes back by itself with Last-Event-ID, but gives up at any status other than 200.
	for ; ; time.Sleep(time.Second) {
		connection.Connect()
	}
}
