# Answer each request of a kept-alive connection with a file, whose header is written by itself.
#   path   the file

proc accept {s a p} {
    fconfigure $s -blocking 0 -translation {auto binary}
    fileevent $s readable [list serve $s]
}

proc serve s {
    while {[gets $s line] > 0} {}
    if {[eof $s]} { close $s; return }
    if {[fblocked $s]} return
    fileevent $s readable {}
    puts -nonewline $s "HTTP/1.1 200 OK\r\nContent-Length: [file size $::path]\r\n\r\n"
    flush $s
    set f [open $::path rb]
    fcopy $f $s -command [list done $s $f]
}

proc done {s f bytes {error ""}} {
    close $f
    if {$error ne ""} { close $s; return }
    fileevent $s readable [list serve $s]
}

listen accept
