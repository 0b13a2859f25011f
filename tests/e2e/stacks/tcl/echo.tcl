# tcllib's websocket. PORT
package require websocket

proc echo {socket type message} {
    if {$type ne "text"} return
    if {$message eq "raise"} {error "told to"}
    if {$message eq "return"} {websocket::close $socket} else {websocket::send $socket text $message}
}

# The package leaves HTTP to its user. It looks for a subprotocol in every request.
proc accept {socket address port} {
    fconfigure $socket -translation crlf -blocking 1
    set headers {Sec-WebSocket-Protocol {}}
    set path [lindex [gets $socket] 1]
    while {[gets $socket line] > 0} {
        regexp {^([^:]+): *(.*)$} $line all name value
        lappend headers $name $value
    }
    if {[websocket::test $::server $socket $path $headers]} {websocket::upgrade $socket} else {close $socket}
}

set server [socket -server accept -myaddr 127.0.0.1 [lindex $argv 0]]
websocket::server $server
websocket::live $server * echo
vwait forever
