# Answer with a file, whatever is asked for, and close.
#   path         the file
#   copy         the command that copies it: fcopy, or one with the same arguments
#   bufferSize   of both channels; 4096 is what scripts get that set nothing

proc accept {s a p} {
    fconfigure $s -blocking 0 -translation binary -buffersize $::bufferSize
    fileevent $s readable [list serve $s]
}

proc serve s {
    read $s
    if {[eof $s]} { close $s; return }
    fileevent $s readable {}
    set f [open $::path rb]
    fconfigure $f -buffersize $::bufferSize
    puts -nonewline $s "HTTP/1.1 200 OK\r\nContent-Length: [file size $::path]\r\n"
    puts -nonewline $s "Connection: close\r\n\r\n"
    $::copy $f $s -command [list done $s $f]
}

proc done {s f bytes {error ""}} {
    close $f
    close $s
}

listen accept
