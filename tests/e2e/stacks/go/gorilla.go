// gorilla/websocket. PORT
package main

import (
	"net/http"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

func echo(writer http.ResponseWriter, request *http.Request) {
	conn, err := upgrader.Upgrade(writer, request, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetReadLimit(65536)
	// The heartbeat of the package's chat example: a read deadline that every pong moves.
	conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	conn.SetPongHandler(func(string) error { return conn.SetReadDeadline(time.Now().Add(3 * time.Second)) })
	go func() {
		for conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) == nil {
			time.Sleep(time.Second)
		}
	}()
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || string(message) == "return" {
			return
		}
		if string(message) == "raise" {
			panic("told to")
		}
		if conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func main() {
	http.HandleFunc("/", echo)
	http.ListenAndServe("127.0.0.1:"+os.Args[1], nil)
}
