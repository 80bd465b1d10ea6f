package main

import (
	"time"

	"github.com/lxzan/gws"
)

type handler struct {
	gws.BuiltinEventHandler
	p *place
}

func (h handler) OnMessage(_ *gws.Conn, message *gws.Message) {
	h.p.take(message.Bytes())
	message.Close()
}

// A ping comes every 25 s; after a minute of silence nobody is there.
func (h handler) OnPing(conn *gws.Conn, payload []byte) {
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.WritePong(payload)
}

func lxzan(base string, p *place) {
	for ; ; time.Sleep(time.Second) {
		// ParallelEnabled would hand events out of order.
		conn, _, err := gws.NewClient(handler{p: p}, &gws.ClientOption{Addr: p.url(base)})
		if err != nil {
			continue
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		conn.ReadLoop()
	}
}
