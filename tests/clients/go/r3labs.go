package main

import (
	"time"

	"github.com/r3labs/sse/v2"
)

func r3labs(base string, p *place) {
	// Larger events than 64 KiB need the option.
	client := sse.NewClient(base+"/v1/sse?topic=clients.%3E&format=data", sse.ClientMaxBufferSize(1<<20))
	// It does not come back after an end in order, hence the loop; it keeps Last-Event-ID.
	for ; ; time.Sleep(time.Second) {
		// Not Subscribe, which adds `?stream=`, and the broker refuses what it does not know.
		client.SubscribeRaw(func(event *sse.Event) {
			switch string(event.Event) {
			case "fanfare.live":
				p.live()
			case "": // blocks without data are handed out too
				if len(event.Data) > 0 {
					p.handle(event.Data)
				}
			}
		})
	}
}
