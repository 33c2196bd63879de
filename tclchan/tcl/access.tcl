# The access log: a line for each request that was answered, in Apache's combined format.
#
#   host ident user [time] "request" status bytes "referer" "user-agent"
#
# The time is that of the request, and bytes are those of the answer's body. What is not known is
# "-". Each line is one write to a file that is open for appending, so that several processes can
# share it; and what came from a client is escaped as Apache does it, so that none can end a line or
# a field early.
#
# access_SERVER.tcl has the server's own code call entry.

namespace eval ::tclchan::access {
    variable path ""    ;# The file, from the root; "-" is standard output.
    variable chan ""    ;# Empty while there is no log.
    variable failed 0   ;# Whether the last line could not be written.
    variable second ""  ;# That of the last line, and its spelling.
    variable spelt ""

    # No header field that Apache takes is longer.
    variable longest 8190
}

proc ::tclchan::access::start file {
    variable path $file
    variable chan [open_log]
    variable failed 0
}

# Go on in a new file by the same name: the one that there was may have been renamed. If that cannot
# be, the error leaves the log as it is.
proc ::tclchan::access::reopen {} {
    variable chan
    if {$chan in {"" stdout}} return
    set old $chan
    set chan [open_log]
    catch {close $old}
}

proc ::tclchan::access::stop {} {
    variable chan
    if {$chan ni {"" stdout}} { catch {close $chan} }
    set chan ""
}

# A line leaves with its newline, and in one piece: the buffer holds the longest.
proc ::tclchan::access::open_log {} {
    variable path
    if {$path eq "-"} {
        set new stdout
    } else {
        set new [open $path {WRONLY APPEND CREAT}]
        fconfigure $new -translation binary
    }
    fconfigure $new -buffering line -buffersize 131072
    return $new
}

# Write a line. seconds is the time of the request; what is not known is empty.
proc ::tclchan::access::entry {host user seconds request status bytes referer agent} {
    variable chan
    variable failed
    if {$chan eq ""} return
    # Nothing surrounds the user, so a space must not look like the end of it.
    set line "$host - [string map {{ } \\x20} [field $user]] \[[spell $seconds]\]\
        \"[field $request]\" [field $status] [expr {$bytes > 0 ? $bytes : "-"}]\
        \"[field $referer]\" \"[field $agent]\""
    if {![catch {puts $chan $line} message]} {
        set failed 0
    } elseif {!$failed} {
        # A full disk is no reason to leave a request unanswered. It is told once.
        set failed 1
        after 0 [list error "the access log cannot be written: $message"]
    }
}

proc ::tclchan::access::field text {
    variable longest
    if {$text eq ""} { return - }
    if {[string length $text] <= $longest && ![regexp {[^ !#-\[\]-~]} $text]} { return $text }
    # As the client sent it, as far as the server's channel has kept that.
    set bytes [string range [encoding convertto [encoding system] $text] 0 $longest-1]
    set result ""
    binary scan $bytes cu* codes
    foreach code $codes {
        append result [switch $code {
            8 { set code \\b } 9 { set code \\t } 10 { set code \\n } 11 { set code \\v }
            13 { set code \\r } 34 { set code \\\" } 92 { set code \\\\ }
            default { format [expr {$code < 32 || $code > 126 ? "\\x%02x" : "%c"}] $code }
        }]
    }
    return $result
}

proc ::tclchan::access::spell seconds {
    variable second
    variable spelt
    if {$seconds ne $second} {
        set spelt [clock format $seconds -format {%d/%b/%Y:%H:%M:%S %z} -locale C]
        set second $seconds
    }
    return $spelt
}
