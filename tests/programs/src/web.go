// web serves a directory's files by net/http (sendfile), answers POST /echo with the body it got.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Write(body)
}

func main() {
	http.Handle("/", http.FileServer(http.Dir(os.Args[2])))
	http.HandleFunc("/echo", echo)
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
