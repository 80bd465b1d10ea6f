package main

import (
	"time"

	"github.com/gorilla/websocket"
)

func gorilla(base string, p *place) {
	for ; ; time.Sleep(time.Second) {
		conn, _, err := websocket.DefaultDialer.Dial(p.url(base), nil)
		if err != nil {
			continue
		}
		// A ping comes every 25 s and is answered by what reads; after a minute of silence nobody is there.
		alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(time.Minute)) }
		answer := conn.PingHandler()
		conn.SetPingHandler(func(text string) error { alive(text); return answer(text) })
		for alive(""); ; alive("") {
			_, text, err := conn.ReadMessage()
			if err != nil {
				break
			}
			p.take(text)
		}
		conn.Close()
	}
}
