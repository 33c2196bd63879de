# Answer each request of a kept-alive connection with 128 bytes.
#   options   more options for the connections

set reply "HTTP/1.1 200 OK\nContent-Length: 128\nContent-Type: text/plain\n\n[string repeat x 128]"

proc accept {s a p} {
    fconfigure $s -blocking 0 -translation crlf {*}$::options
    fileevent $s readable [list serve $s]
}

proc serve s {
    while {[gets $s line] >= 0} {
        if {$line eq ""} {
            puts -nonewline $s $::reply
            flush $s
        }
    }
    if {[eof $s]} { close $s }
}

listen accept
