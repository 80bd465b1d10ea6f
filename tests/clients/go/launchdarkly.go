package main

import (
	"time"

	"github.com/launchdarkly/eventsource"
)

func launchDarkly(base string, p *place) {
	stream, err := eventsource.SubscribeWithURL(base+"/v1/sse?topic=clients.%3E&format=data",
		eventsource.StreamOptionInitialRetry(time.Second),
		eventsource.StreamOptionUseBackoff(5*time.Second),
		eventsource.StreamOptionReadTimeout(time.Minute), // a heartbeat comes every 25 s
		eventsource.StreamOptionCanRetryFirstConnection(-1),
		// It says of every error that it goes on.
		eventsource.StreamOptionErrorHandler(func(error) eventsource.StreamErrorHandlerResult {
			return eventsource.StreamErrorHandlerResult{}
		}))
	if err != nil {
		panic(err)
	}
	for event := range stream.Events {
		switch event.Event() {
		case "fanfare.live":
			p.live()
		case "": // blocks without data are handed out too
			if event.Data() != "" {
				p.handle([]byte(event.Data()))
			}
		}
	}
}
