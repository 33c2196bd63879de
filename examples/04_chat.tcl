# A chat server: what one client writes in a line, all the others read.
#
#   tclchan run examples/04_chat.tcl ?port?
#   TCLLIBPATH="$(tclchan path)" tclsh examples/04_chat.tcl ?port?
#
# The port is 7001 unless given; 0 takes a free one. Try it, twice:  nc 127.0.0.1 7001
# The first line is one's name; "/who" lists who is there, "/quit" leaves.

package require iocpsock

# One client must not be able to fill the memory of the server: neither by a line without an end,
# nor by not reading what the others write.
set maxLine 4096
set maxUnread 65536

array set name {}

proc accept {chan host port} {
    fconfigure $chan -blocking 0 -encoding utf-8 -translation {auto crlf} -buffering line
    fileevent $chan readable [list hear $chan]
    tell $chan "Welcome. What is your name?"
}

proc hear chan {
    global name maxLine
    if {[catch {gets $chan line} length]} { return [leave $chan] }
    if {$length < 0} {
        if {[eof $chan]} {
            leave $chan
        } elseif {[chan pending input $chan] > $maxLine} {
            leave $chan "a line without an end"
        }
        return
    }
    set line [string trim $line]
    if {![info exists name($chan)]} {
        join_in $chan [string range $line 0 31]
    } elseif {$line eq "/quit"} {
        leave $chan
    } elseif {$line eq "/who"} {
        tell $chan [join [lsort [lmap {other itsName} [array get name] {set itsName}]] ", "]
    } elseif {$line ne ""} {
        tell_others $chan "$name($chan): [string range $line 0 $maxLine]"
    }
}

proc join_in {chan wanted} {
    global name
    if {$wanted eq "" || $wanted in [lmap {other itsName} [array get name] {set itsName}]} {
        return [tell $chan "Another name, please."]
    }
    set name($chan) $wanted
    tell $chan "Hello, $wanted. [array size name] here."
    tell_others $chan "* $wanted joins"
}

proc leave {chan {reason ""}} {
    global name
    set who [expr {[info exists name($chan)] ? $name($chan) : ""}]
    # The name goes first, so that telling the others does not come back to this client.
    unset -nocomplain name($chan)
    catch {close $chan}
    if {$who ne ""} { tell_others $chan "* $who leaves[expr {$reason ne "" ? ": $reason" : ""}]" }
}

proc tell {chan line} {
    global maxUnread
    if {[catch {puts $chan $line}]} {
        leave $chan
    } elseif {[chan pending output $chan] > $maxUnread} {
        leave $chan "does not read"
    }
}

proc tell_others {chan line} {
    global name
    foreach other [array names name] {
        # Telling one of them may make another leave.
        if {$other ne $chan && [info exists name($other)]} { tell $other $line }
    }
}

set port [expr {$argc > 0 ? [lindex $argv 0] : 7001}]
if {[catch {socket2 -server accept -myaddr 127.0.0.1 $port} listener]} {
    puts stderr $listener
    exit 1
}
puts "chat server at 127.0.0.1 port [lindex [fconfigure $listener -sockname] 2] ([iocp::engine])"
flush stdout
vwait forever
