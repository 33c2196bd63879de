# A server process of the benchmark.
#
#   tclsh serve.tcl "SCRIPT..." NAME VALUE...
#
# The names become global variables. These must be there; the others are for the scripts, which lie
# beside this one:
#   command    socket or socket2
#   library    the directory with the driver
#   notifier   of socket2: tcl or ring
# When the scripts listen, their ports are written, and the name of the engine where there is one.

foreach {name value} [lrange $argv 1 end] { set $name $value }
set engine ""
if {$command eq "socket2"} {
    lappend auto_path $library
    package require iocpsock
    iocp::notifier $notifier
    set engine [iocp::engine]
}

proc listen accept {
    set listener [$::command -server $accept -myaddr 127.0.0.1 0]
    lappend ::ports [lindex [fconfigure $listener -sockname] 2]
    return $listener
}

foreach script [lindex $argv 0] { source [file join [file dirname [info script]] $script] }
puts [concat ready $ports $engine]
flush stdout
vwait forever
