# One request for each connection: accept, answer with 128 bytes, close.

set body [string repeat x 128]

proc accept {s a p} {
    fconfigure $s -blocking 0 -translation crlf
    fileevent $s readable [list serve $s]
}

proc serve s {
    while {[gets $s line] >= 0} {
        if {$line eq ""} {
            puts -nonewline $s "HTTP/1.1 200 OK\nContent-Length: 128\nConnection: close\n\n$::body"
            close $s
            return
        }
    }
    if {[eof $s]} { close $s }
}

listen accept
