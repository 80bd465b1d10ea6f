package main

import (
	"context"
	"time"

	"github.com/coder/websocket"
)

func coder(base string, p *place) {
	for ; ; time.Sleep(time.Second) {
		ctx, cancel := context.WithCancel(context.Background())
		// A ping comes every 25 s and is answered by what reads; after a minute of silence nobody is there.
		silence := time.AfterFunc(time.Minute, cancel)
		alive := func(context.Context, []byte) bool { return silence.Reset(time.Minute) }
		conn, _, err := websocket.Dial(ctx, p.url(base), &websocket.DialOptions{OnPingReceived: alive})
		if err == nil {
			conn.SetReadLimit(1 << 20) // 32 KiB otherwise, and the broker takes larger events
			for {
				_, text, err := conn.Read(ctx)
				if err != nil {
					break
				}
				p.take(text)
			}
			conn.CloseNow()
		}
		silence.Stop()
		cancel()
	}
}
