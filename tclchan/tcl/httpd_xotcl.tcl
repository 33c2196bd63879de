# XOTcl's xotcl::comm::httpd (Debian: xotcl), the default server.
#
# It is the default since, of the servers that Debian packages, it alone speaks HTTP/1.1: it keeps
# connections alive, answers pipelined requests, HEAD and If-Modified-Since, and sends
# Last-Modified. tcllib's httpd closes after each answer, knows none of these, and leaves the type
# of a plain page empty. A file leaves here by one fcopy with a 64 kB buffer, there by a new fcopy
# for every 4 kB; of small files this server sends six times as many per second.
#
# It is made to be extended by subclassing its worker, and has to be: as installed it follows ".."
# out of its root, evaluates Tcl commands in a URL, lets anyone PUT files, knows no type for SVG and
# scripts, and sends a body with a 304.

::tclchan::httpd::need XOTcl 1.6 xotcl
::tclchan::httpd::need xotcl::comm::httpd 1.1 xotcl

proc ::tclchan::httpd::start {root address port options} {
    variable httpd
    variable log_dir [dict get $options log_dir]
    quietly {
        # "/." keeps a root of "/" from being trimmed to nothing.
        set httpd [::xotcl::comm::httpd::Httpd new -port $port -ipaddr $address -root $root/. \
            -logdir [expr {$log_dir ne "" ? $log_dir : [dict get $options work_dir]}] \
            -httpdWrk ::tclchan::httpd::xotcl::Worker]
    }
    return [port_of [$httpd set listen]]
}

proc ::tclchan::httpd::stop {} {
    variable httpd
    hurry
    foreach worker [$httpd info children] { $worker destroy }
    $httpd destroy
}

# Worker respond heeds $draining.
proc ::tclchan::httpd::last_answers {} {}

# A worker has a version from the first line of a request on until that is answered.
proc ::tclchan::httpd::waiting {} {
    variable httpd
    set waiting {}
    foreach worker [$httpd info children] {
        if {![$worker exists version]} { dict set waiting [$worker socket] [list $worker destroy] }
    }
    return $waiting
}

# The methods of the server look for XOTcl's commands in the global namespace.
namespace import -force ::xotcl::*

namespace eval ::tclchan::httpd::xotcl {
    namespace import ::xotcl::*

    # The server's own object for this evaluates what is in brackets. No request comes to it here,
    # but a site may have a use for it.
    Class PlainText

    PlainText instproc decodeName string { ::tclchan::httpd::decode $string }

    PlainText instproc decodeItem string {
        ::tclchan::httpd::decode [string map {+ { }} $string]
    }

    ::xotcl::comm::mime::url mixin PlainText

    # A worker serves one connection, request by request.
    Class Worker -superclass ::xotcl::comm::httpd::Httpd::Wrk

    # A link is a worker's connection. A client that is gone is no news worth a line on stderr, and
    # no reason for leaving the objects of its connection behind.
    Class Link -superclass ::xotcl::comm::connection::Connection

    Worker instproc init args {
        next
        # A client that says nothing is dropped, as an idle one is; firstLine cancels this.
        my set timeout [after [[my info parent] workerTimeout] [list [self] destroy]]
    }

    Worker instproc makeConnection socket {
        ::tclchan::httpd::xotcl::Link create [self]::connection -socket $socket -req [self]
    }

    Worker instproc destroy {} {
        if {[my exists timeout]} { after cancel [my set timeout] }
        next
    }

    # All that happens to a connection comes through here. Tcl cancels a handler that fails, and
    # then nothing would ever look at the connection again, not even at its end.
    Worker instproc attempt {method args} {
        if {![catch {my $method {*}$args} message options]} return
        ::tclchan::httpd::report $message $options
        if {![::xotcl::Object isobject [self]]} return
        if {![my exists version] || [my set answering] || [catch {my refuse 500}]} { my destroy }
    }

    # The server's own list of answers is short.
    Httpd::Wrk array set codes {
        413 {Content Too Large}  431 {Request Header Fields Too Large}
        501 {Not Implemented}    505 {HTTP Version Not Supported}
    }

    # Answer with an error, and let that be the end.
    Worker instproc refuse code {
        my connection event readable [self] ""
        my set closing 1
        my replyCode $code
        my replyErrorMsg
    }

    # From here on, no other answer can be given to this request.
    Worker instproc replyCode {code args} {
        my instvar version
        my set answering 1
        my set replyHeaderFields [list Date [::tclchan::httpd::date [clock seconds]] \
            {*}[my set replyHeaderFields]]
        if {$version <= 1.0 || [my exists closing]} {
            my lappend replyHeaderFields Connection close
        }
        next
    }

    # The server takes nearly any line for a request, a part of a line for the end of the header,
    # and what follows a body for more of it. What two programs read in two ways is how a request
    # is smuggled past the first of them: what is not as RFC 9112 says is refused.
    Worker instproc firstLine {} {
        my instvar timeout method path resourceName hasFormData query version
        if {[info exists timeout]} {
            after cancel $timeout
            unset timeout
        }
        if {[my connection gets line] <= 0} {
            if {[my connection eof] || [my connection pending] > 65536} { my destroy }
            return
        }
        my set answering 0
        # What is left for the header: bytes, and lines. A client must not fill the memory.
        my set room 65536
        my set lines 100
        set shape {^([A-Z]+) (/[^?[:cntrl:] ]*|\*)(\??)([^[:cntrl:] ]*) HTTP/(\d\.\d)$}
        if {![regexp $shape $line -> method path hasFormData query version]} {
            lassign {??? ??? 1.0} method resourceName version
            my log Error "bad first line:$line"
            return [my refuse 400]
        }
        set resourceName [string range $path 1 end]
        my log Query $line
        if {$version ni {1.0 1.1}} {
            set version 1.1
            return [my refuse 505]
        }
        my connection event readable [self] header
    }

    Worker instproc header {} {
        my instvar meta room lines
        while {[my connection gets line] >= 0} {
            if {$line eq ""} { return [my headerEnd] }
            if {[incr room -[string length $line]] < 0 || [incr lines -1] < 0} {
                return [my refuse 431]
            }
            if {![regexp {^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\u0000\r]*)$} $line -> name value]} {
                return [my refuse 400]
            }
            set name [string tolower $name]
            # Of a header that comes twice, the values are a list. No length is one.
            if {[info exists meta($name)]} { append meta($name) ", " }
            append meta($name) [string trim $value " \t"]
        }
        if {[my connection eof]} {
            my destroy
        } elseif {[my connection pending] > $room} {
            my refuse 431
        }
    }

    Worker instproc headerEnd {} {
        my instvar meta method version data length
        set length 0
        if {[info exists meta(transfer-encoding)]} { return [my refuse 501] }
        if {[info exists meta(content-length)]} {
            if {![regexp {^[0-9]{1,18}$} $meta(content-length)]} { return [my refuse 400] }
            scan $meta(content-length) %lld length
            # The whole body is gathered before anything looks at what is asked for.
            if {$length > 1048576} { return [my refuse 413] }
        } elseif {$method in {POST PUT}} {
            return [my refuse 411]
        }
        set data ""
        if {$length == 0} {
            my connection event readable [self] ""
            return [my check-redirect]
        }
        if {$version > 1.0 && [info exists meta(expect)]
            && [string equal -nocase $meta(expect) 100-continue]} {
            my connection puts "HTTP/1.1 100 Continue\n"
            my connection flush
        }
        my connection translation {binary crlf}
        my connection event readable [self] receive-body
    }

    # Not a byte more: what follows is the next request.
    Worker instproc receive-body {} {
        my instvar data length
        append data [my connection readSize [expr {$length - [string length $data]}]]
        if {[string length $data] == $length} {
            my connection event readable [self] ""
            my check-redirect
        } elseif {[my connection eof]} {
            my refuse 400
        }
    }

    Worker instproc respond {} {
        my instvar method path hasFormData query fileName meta
        if {[info exists meta(connection)] && [string match -nocase *close* $meta(connection)]} {
            my set closing 1
        }
        if {$::tclchan::httpd::draining} { my set closing 1 }
        if {$method ni {GET HEAD}} {
            my replyCode [expr {$method eq "OPTIONS" ? 204 : 405}] Allow "GET, HEAD, OPTIONS"
            return [my replyErrorMsg]
        }
        if {$path eq "/stats.json"} {
            my lappend replyHeaderFields Cache-Control no-store
            return [my sendMsg [::tclchan::httpd::stats_json] application/json]
        }
        lassign [::tclchan::httpd::find [[my info parent] root] $path] kind fileName
        switch $kind {
            file { next }
            template {
                my lappend replyHeaderFields Cache-Control no-store
                if {[catch {::tclchan::httpd::render $fileName} page options]} {
                    ::tclchan::httpd::report $page $options
                    my replyCode 500
                    return [my replyErrorMsg [::tclchan::httpd::escape $page]]
                }
                my sendMsg $page "text/html; charset=utf-8"
            }
            listing {
                my sendMsg [::tclchan::httpd::listing $fileName $path] \
                    "text/html; charset=utf-8"
            }
            redirect {
                my replyCode 302 Location $fileName$hasFormData$query
                my replyErrorMsg
            }
            missing { my replyCode 404; my replyErrorMsg }
        }
    }

    Worker instproc respond-HEAD {} { my sendFile [my set fileName] }

    # Once there is a header, only the whole file can follow: it is opened before, and what others
    # do to it meanwhile changes nothing about its length.
    Worker instproc sendFile {file {type ""}} {
        my instvar method size
        set mtime [file mtime $file]
        if {[my unmodified $mtime]} {
            my replyCode 304
            return [my replyErrorMsg]
        }
        if {[catch {open $file rb} in options]} {
            ::tclchan::httpd::report $in $options
            my replyCode 503
            return [my replyErrorMsg]
        }
        try {
            seek $in 0 end
            set size [tell $in]
            seek $in 0
            my replyCode 200 Last-Modified [::tclchan::httpd::date $mtime] \
                Content-Type [::tclchan::httpd::content_type $file] Content-Length $size
            my connection puts ""
            if {$method eq "HEAD"} {
                close $in
                return [my close]
            }
            fconfigure $in -buffersize 65536
            my connection fconfigure -translation binary
            fcopy $in [my connection socket] -size $size \
                -command [list [self] attempt fcopy-end $in]
        } on error {message options} {
            # When the client is gone before the header is out, fcopy calls fcopy-end and then
            # fails without a message: all is done.
            if {$message eq ""} return
            catch {close $in}
            return -options $options $message
        }
    }

    # When the rest of the file is missing, the end of the connection tells the client.
    Worker instproc fcopy-end {file bytes {error ""}} {
        if {$error eq "" && $bytes == [my set size]} { return [next] }
        close $file
        my destroy
    }

    # The name of the resource in such an answer is the client's own text; a 204 or 304 has no body.
    Worker instproc replyErrorMsg args {
        my instvar replyCode resourceName
        if {$replyCode in {204 304}} {
            my connection puts ""
            return [my close]
        }
        set resourceName [::tclchan::httpd::escape $resourceName]
        next
    }

    Worker instproc unmodified mtime {
        my instvar meta
        expr {[info exists meta(if-modified-since)]
              && [::tclchan::httpd::unmodified $mtime $meta(if-modified-since)]}
    }

    Worker instproc close {} {
        if {[my exists closing]} { my set version 1.0 }
        next
    }

    # A full disk is no reason to leave a request unanswered.
    Worker instproc log args {
        if {$::tclchan::httpd::log_dir ne "" && [catch {next} message options]} {
            ::tclchan::httpd::report $message $options
        }
    }

    # The server's trace of HEAD requests goes to stdout.
    Worker instproc showMsg args {}

    Link instproc event {type worker method} {
        ::fileevent [my socket] $type [expr {$method ne "" ? [list $worker attempt $method] : ""}]
    }

    # A line ends in a line feed. With "auto", the return before it is enough: the server answers
    # and may close while the line feed is on its way, and the kernel resets such a connection.
    #
    # A body and a file leave the channel with bytes for characters: the next header is text again.
    Link instproc translation translation {
        ::fconfigure [my socket] -encoding [encoding system] \
            -translation [::tclchan::httpd::xotcl::lineFeeds $translation]
    }

    Link instproc fconfigure args {
        next {*}[lmap word $args { ::tclchan::httpd::xotcl::lineFeeds $word }]
    }

    proc lineFeeds translation { regsub {^auto\M} $translation lf }

    # Whether a line has come as a whole; the next gets gives it.
    Link instproc hasLine {} {
        my instvar socket line
        if {[catch {::gets $socket line} length]} {
            my set error $length
            set length -1
        }
        if {$length < 0} { unset -nocomplain line }
        return [expr {$length >= 0}]
    }

    # How many bytes there are of a line without an end. Tcl looks through them all when more comes.
    Link instproc pending {} { chan pending input [my socket] }

    Link instproc gets name {
        upvar [self callinglevel] $name result
        my instvar line
        if {![info exists line] && ![my hasLine]} { return -1 }
        set result [string trimright $line \r]
        unset line
        return [string length $result]
    }

    Link instproc readSize length {
        if {[catch {::read [my socket] $length} bytes]} {
            my set error $bytes
            return ""
        }
        return $bytes
    }

    Link instproc puts string {
        if {[catch {::puts [my socket] $string} message]} { my set error $message }
    }

    Link instproc puts-nonewline string {
        if {[catch {::puts -nonewline [my socket] $string} message]} { my set error $message }
    }

    Link instproc destroy {} {
        if {[my exists socket]} {
            catch {close [my socket]}
            my unset socket
        }
        next
    }
}
