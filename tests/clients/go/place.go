package main

import (
	"encoding/json"
	"net/url"
)

// place is where a client of WebSockets is in the history.
type place struct {
	cursor string
	handle func(data json.RawMessage)
	live   func()
}

type frame struct {
	Op, ID, Cursor, Code string
	Data                 json.RawMessage
	Snapshot, Conflated  bool
}

// take does what a message says. The cursor moves when the event was handled, so that one whose handling failed comes again.
func (p *place) take(text []byte) {
	var f frame
	if json.Unmarshal(text, &f) != nil {
		return
	}
	switch f.Op {
	case "event":
		p.handle(f.Data)
		if f.ID != "" && !f.Snapshot && !f.Conflated {
			p.cursor = f.ID
		}
	case "live", "cursor":
		p.cursor = f.Cursor
		p.live()
	}
}

// url is where the client goes on. Values encodes the `>` of a pattern.
func (p *place) url(base string) string {
	query := url.Values{"topic": {"clients.>"}}
	if p.cursor != "" {
		query.Set("since", p.cursor)
	}
	return base + "/v1/ws?" + query.Encode()
}
