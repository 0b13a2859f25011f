// golang.org/x/net/websocket. PORT
package main

import (
	"net/http"
	"os"

	"golang.org/x/net/websocket"
)

func echo(conn *websocket.Conn) {
	conn.MaxPayloadBytes = 65536
	for {
		var message string
		if websocket.Message.Receive(conn, &message) != nil || message == "return" {
			return
		}
		if message == "raise" {
			panic("told to")
		}
		if websocket.Message.Send(conn, message) != nil {
			return
		}
	}
}

func main() {
	http.Handle("/", websocket.Server{Handler: echo})
	http.ListenAndServe("127.0.0.1:"+os.Args[1], nil)
}
