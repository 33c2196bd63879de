# An echo server: every client gets its own bytes back.
#
#   tclchan run examples/01_echo.tcl ?port?
#   TCLLIBPATH="$(tclchan path)" tclsh examples/01_echo.tcl ?port?
#
# The port is 7000 unless given; 0 takes a free one. Try it with:  nc 127.0.0.1 7000

package require iocpsock

proc accept {chan host port} {
    fconfigure $chan -blocking 0 -translation binary
    # fcopy waits for a client that does not read, where a loop of read and puts would gather its
    # bytes in memory.
    fcopy $chan $chan -command [list hang_up $chan]
}

# Called at the end of what the client sends, or with an error when it is gone. Bytes that are still
# on their way are sent after close.
proc hang_up {chan bytes {error ""}} {
    catch {close $chan}
}

set port [expr {$argc > 0 ? [lindex $argv 0] : 7000}]
if {[catch {socket2 -server accept -myaddr 127.0.0.1 $port} listener]} {
    puts stderr $listener
    exit 1
}
puts "echo server at 127.0.0.1 port [lindex [fconfigure $listener -sockname] 2] ([iocp::engine])"
flush stdout
vwait forever
