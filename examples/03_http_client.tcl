# An HTTP client: fetches all its URLs at the same time, with Tcl's own http package on socket2.
#
#   tclchan run examples/03_http_client.tcl ?URL ...?
#   TCLLIBPATH="$(tclchan path)" tclsh examples/03_http_client.tcl ?URL ...?
#
# Without a URL it asks the site that "make serve" hosts. Exit code 1 when one of them fails.

package require http
package require iocpsock

# From here on whatever uses the http package uses socket2.
http::register http 80 socket2

# The page is thrown away as it comes, so that it may be of any size.
proc discard {socket token} {
    string length [read $socket 65536]
}

proc done {url token} {
    upvar #0 $token state
    global pending failed
    if {[http::status $token] eq "ok"} {
        puts [format "%s %12d bytes  %s" [http::ncode $token] $state(currentsize) $url]
        if {[http::ncode $token] >= 400} { set failed 1 }
    } else {
        puts stderr "[http::status $token]: [http::error $token] $url"
        set failed 1
    }
    http::cleanup $token
    incr pending -1
}

set urls [expr {$argc > 0 ? $argv : "http://127.0.0.1:8015/"}]
set failed 0
set pending [llength $urls]
foreach url $urls {
    if {[catch {
        http::geturl $url -timeout 30000 -binary 1 -handler discard -command [list done $url]
    } message]} {
        puts stderr "$message: $url"
        set failed 1
        incr pending -1
    }
}
while {$pending > 0} { vwait pending }
exit $failed
