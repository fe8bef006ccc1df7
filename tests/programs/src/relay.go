// relay passes TCP connections on to one address, as most Go proxies do: io.Copy each way, which splices on Linux.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

// pass copies one direction to its end and hands the end on.
func pass(to, from *net.TCPConn, done chan<- struct{}) {
	io.Copy(to, from)
	to.CloseWrite()
	done <- struct{}{}
}

func relay(client *net.TCPConn, origin string) {
	defer client.Close()
	dialled, err := net.Dial("tcp", origin)
	if err != nil {
		log.Print(err)
		return
	}
	server := dialled.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{}, 2)
	go pass(server, client, done)
	go pass(client, server, done)
	<-done
	<-done
}

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go relay(client.(*net.TCPConn), os.Args[2])
	}
}
