# The other side of sender.tcl, a process of its own that serves nobody.
#   port     of the sender
#   path     the file that it sends over and over
#   sendcap  of the sender: burst-detection posts as many buffers at most
#   ms       for how long to receive
# It begins with a line on standard input. At the end it writes how many bytes came in how many
# microseconds, and how many buffers there were to be read each time, on the average.

set ports {}
set f [open $path rb]
set chunk [read $f]
close $f
set size [string length $chunk]
append chunk $chunk
set received 0
set buffers 0
set reads 0

proc receive {} {
    gets stdin
    fileevent stdin readable {}
    set s [$::command 127.0.0.1 $::port]
    fconfigure $s -blocking 0 -translation binary -recvmode [list burst-detection $::sendcap 64]
    fileevent $s readable [list take $s]
    after $::ms [list finish [clock microseconds]]
}

proc take s {
    incr ::buffers [lindex [fconfigure $s -recvmode] 4]
    incr ::reads
    set data [read $s]
    set length [string length $data]
    # Comparing all of it would cost more than receiving it.
    set part [expr {min($length, 64) - 1}]
    set at [expr {$::received % $::size}]
    if {[string range $data 0 $part] ne [string range $::chunk $at [expr {$at + $part}]]} {
        fail "wrong bytes after $::received"
    }
    incr ::received $length
    if {[eof $s]} { fail "the sender ended the connection after $::received bytes" }
}

proc fail {message args} {
    puts stderr $message
    exit 1
}

proc finish began {
    set us [expr {[clock microseconds] - $began}]
    puts "$::received $us [expr {double($::buffers) / max(1, $::reads)}]"
    exit
}

interp bgerror {} fail
fileevent stdin readable receive
