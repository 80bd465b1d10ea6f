package main

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// impatient ends a connection on which nothing came for a minute. A ping comes every 25 s.
type impatient struct{ net.Conn }

func (c impatient) Read(bytes []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(time.Minute))
	return c.Conn.Read(bytes)
}

func gobwas(base string, p *place) {
	dialer := ws.Dialer{WrapConn: func(conn net.Conn) net.Conn { return impatient{conn} }}
	for ; ; time.Sleep(time.Second) {
		conn, early, _, err := dialer.Dial(context.Background(), p.url(base))
		if err != nil {
			continue
		}
		// What came along with the answer to the handshake, often the welcome, is in this reader alone.
		var reader io.Reader = conn
		if early != nil {
			reader = early
		}
		both := struct {
			io.Reader
			io.Writer
		}{reader, conn}
		for {
			text, err := wsutil.ReadServerText(both) // answers pings
			if err != nil {
				break
			}
			p.take(text)
		}
		conn.Close()
	}
}
