// nhooyr.io/websocket, as its documentation shows it: a deferred Close. PORT
package main

import (
	"net/http"
	"os"

	"nhooyr.io/websocket"
)

func echo(writer http.ResponseWriter, request *http.Request) {
	conn, err := websocket.Accept(writer, request, nil)
	if err != nil {
		return
	}
	defer conn.Close(websocket.StatusInternalError, "the sky is falling")
	for {
		kind, message, err := conn.Read(request.Context())
		if err != nil || string(message) == "return" {
			return
		}
		if string(message) == "raise" {
			panic("told to")
		}
		if conn.Write(request.Context(), kind, message) != nil {
			return
		}
	}
}

func main() {
	http.HandleFunc("/", echo)
	http.ListenAndServe("127.0.0.1:"+os.Args[1], nil)
}
