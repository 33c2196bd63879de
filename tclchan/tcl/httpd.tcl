# Common ground of the hosted web servers: what a server's own file (httpd_SERVER.tcl) builds on.
#
# Each of those files defines
#   ::tclchan::httpd::start root address port options   -> the port it listens on
#   ::tclchan::httpd::stop      closes listeners, connections, and logs; cancels the server's timers
#   ::tclchan::httpd::waiting   -> a dict: the channel of each connection that waits for a request,
#                               and the command that closes it
#   ::tclchan::httpd::last_answers   lets each answer be the last one of its connection
# and the host calls begin, reads that file, and calls launch; and end, whatever has come of that.
# Before the end, it may call drain.
#
# The servers themselves are loaded as they were installed. What they lack for serving a site is
# added by subclassing, through their own hooks, and around their procedures; their code stays.

namespace eval ::tclchan::httpd {
    # This file is read anew for each site, also while another one is served.
    variable server
    if {![info exists server]} { set server "" }
    variable draining
    if {![info exists draining]} { set draining 0 }

    # Only the types that the servers leave out or name by outdated names; see content_type.
    variable types {
        apng image/apng       avif image/avif        bin application/octet-stream
        css text/css          csv text/csv           gif image/gif
        gz application/gzip   htm text/html          html text/html
        ico image/x-icon      jpeg image/jpeg        jpg image/jpeg
        js text/javascript    json application/json  map application/json
        md text/markdown      mjs text/javascript    mp3 audio/mpeg
        mp4 video/mp4         ogg audio/ogg          pdf application/pdf
        png image/png         svg image/svg+xml      tar application/x-tar
        tcl text/plain        txt text/plain         wasm application/wasm
        wav audio/wav         webm video/webm        webmanifest application/manifest+json
        webp image/webp       woff font/woff         woff2 font/woff2
        xml text/xml          zip application/zip
    }
}

# Take note of what there is before a server starts.
proc ::tclchan::httpd::begin name {
    variable server
    variable since [clock milliseconds]
    variable started 0
    variable draining 0
    variable before
    if {$server ne ""} {
        error "this interpreter serves a site already ($server): another site takes another Interp"
    }
    set server $name
    set before [dict create channels [file channels] timers [after info]]
    zero_copy 1
}

proc ::tclchan::httpd::launch args {
    variable started
    set port [start {*}$args]
    set started 1
    return $port
}

# Set options of the driver's listeners; the connections that they accept inherit them.
proc ::tclchan::httpd::configure_listeners args {
    foreach listener [listeners] { fconfigure $listener {*}$args }
}

proc ::tclchan::httpd::end {} {
    variable server
    variable started
    cancel_timers tclchan::httpd::recede tclchan::httpd::limit::*
    try {
        if {$started} { stop } else { give_up }
    } finally {
        zero_copy 0
        # After the connections, since the end of one may be worth a line.
        if {[namespace exists ::tclchan::access]} { ::tclchan::access::stop }
        set server ""
    }
}

# Undo a start that has failed, at whatever point it did.
proc ::tclchan::httpd::give_up {} {
    variable before
    foreach id [after info] {
        if {$id ni [dict get $before timers]} { after cancel $id }
    }
    foreach chan [file channels] {
        if {$chan ni [dict get $before channels]} { catch {close $chan} }
    }
}

# Begin to end: accept nothing more, finish what is being answered, and call ::tclchan::drained when
# no connection is left. One that has waited for a request for lull milliseconds is closed. Those
# that ask before are answered.
proc ::tclchan::httpd::drain lull {
    variable draining
    variable patience $lull
    if {!$draining} {
        # Nobody waits for the names of addresses now.
        set ::tcl::unsupported::noReverseDNS 1
        accept_more 0
        set draining 1
        after 0 [list ::tclchan::httpd::recede {}]
    }
}

# Whether connections are accepted, or left to the kernel's queue. Once the server drains, none is.
proc ::tclchan::httpd::accept_more on {
    variable draining
    if {!$draining} { configure_listeners -accepting $on }
}

# since says for each connection that waits for a request since when it was seen to.
proc ::tclchan::httpd::recede since {
    variable patience
    last_answers
    set now [clock milliseconds]
    set waits {}
    dict for {chan hang_up} [waiting] {
        if {[chan pending input $chan] > 0} continue
        set begun [expr {[dict exists $since $chan] ? [dict get $since $chan] : $now}]
        if {$now - $begun >= $patience} {
            {*}$hang_up
        } else {
            dict set waits $chan $begun
        }
    }
    set ports {}
    set left 0
    foreach listener [listeners] {
        lappend ports [port_of $listener]
        incr left [lindex [fconfigure $listener -backlog] 1]
    }
    incr left [llength [clients $ports]]
    if {$left == 0} {
        ::tclchan::drained
    } else {
        # Looking at many connections takes its time: let it be a small part of what there is.
        set took [expr {[clock milliseconds] - $now}]
        after [expr {20 + 10 * $took}] [list ::tclchan::httpd::recede $waits]
    }
}

# Have an error that is dealt with told like one in an event handler: to bgerror, and so to the log.
proc ::tclchan::httpd::report {message options} {
    after 0 [list return -options $options $message]
}

# Cancel the timers whose commands match one of the patterns.
proc ::tclchan::httpd::cancel_timers args {
    foreach id [after info] {
        set command [string trimleft [lindex [after info $id] 0 0] :]
        foreach pattern $args {
            if {[string match $pattern $command]} { after cancel $id }
        }
    }
}

# The Content-Type of a file, by its extension.
proc ::tclchan::httpd::content_type file {
    variable types
    set extension [string tolower [string range [file extension $file] 1 end]]
    if {![dict exists $types $extension]} { return application/octet-stream }
    set type [dict get $types $extension]
    if {[string match text/* $type]} { append type "; charset=utf-8" }
    return $type
}

# The date format of HTTP headers. The locale is that of the protocol, not that of the machine.
proc ::tclchan::httpd::date seconds {
    clock format $seconds -format {%a, %d %b %Y %H:%M:%S GMT} -gmt true -locale C
}

# Whether a file last changed at mtime is what a client with this If-Modified-Since already has. A
# date that is not in one of the three forms of the protocol is as none. clock scan takes more than
# that: what it has read must come out as the same text.
proc ::tclchan::httpd::unmodified {mtime since} {
    foreach form {
        {%a, %d %b %Y %H:%M:%S GMT}
        {%A, %d-%b-%y %H:%M:%S GMT}
        {%a %b %e %H:%M:%S %Y}
    } {
        set form [list -format $form -gmt true -locale C]
        if {![catch {clock scan $since {*}$form} seconds]
            && [clock format $seconds {*}$form] eq $since} {
            return [expr {$mtime <= $seconds}]
        }
    }
    return 0
}

proc ::tclchan::httpd::escape text {
    string map {& &amp; < &lt; > &gt; \" &quot;} $text
}

# Find the file that a URL path means. Returns {kind file}:
#   file F        F is the file (of a directory, its index page)
#   template F    a page made by Tcl
#   listing D     a directory without an index page
#   redirect URL  a directory named without its slash
#   missing ""    there is none, or the path would leave the root. Both look alike from outside.
proc ::tclchan::httpd::find {root path} {
    set parts {}
    foreach part [split $path /] {
        set part [decode $part]
        # Never a way up, an absolute part, or a hidden file; and never a byte that the file system
        # would read otherwise than this check does.
        if {[regexp {[/\\\u0000]} $part]} { return {missing ""} }
        if {[string match .* $part] && $part ne ".well-known"} { return {missing ""} }
        if {$part ne ""} { lappend parts ./$part }
    }
    # "./" in front of each part keeps "~name" from being a home directory.
    set file [file join $root {*}$parts]
    set depth [llength $parts]
    if {[file isdirectory $file]} {
        if {![named_so $file $depth]} { return {missing ""} }
        # Two slashes at its beginning would make a host of the first name.
        if {![string match */ $path]} { return [list redirect /[string trimleft $path /]/] }
        foreach {name kind} {index.html file index.tml template} {
            set index [file join $file $name]
            if {![file isfile $index]} continue
            return [expr {[file readable $index] ? [list $kind $index] : {missing ""}}]
        }
        return [expr {[file readable $file] ? [list listing $file] : {missing ""}}]
    }
    if {![string match */ $path]} {
        foreach candidate [list $file $file.html $file.tml] {
            if {![file isfile $candidate] || ![file readable $candidate]
                || ![named_so $candidate $depth]} continue
            return [list [expr {[string match *.tml $candidate] ? "template" : "file"}] $candidate]
        }
    }
    return {missing ""}
}

# Whether the last parts of the path of an existing file are its names as they are on the disk.
# Windows knows a file by others, too: in other cases, by short ones (of a hidden file, one that
# does not look so), with dots, spaces, or the name of a stream behind (of a template, its source).
proc ::tclchan::httpd::named_so {file depth} {
    if {$::tcl_platform(platform) ne "windows" || $depth == 0} { return 1 }
    if {[catch {file attributes $file -longname} true]} { return 0 }
    foreach path [list $file $true] {
        lappend names [lrange [lmap part [file split $path] {
            if {$part eq "."} continue
            # So Tcl spells "~name", lest it is a home directory.
            regsub {^\./} $part ""
        }] end-[expr {$depth - 1}] end]
    }
    expr {[lindex $names 0] eq [lindex $names 1]}
}

proc ::tclchan::httpd::decode part {
    set bytes [encoding convertto utf-8 $part]
    set result ""
    while {[regexp -indices {%[0-9a-fA-F]{2}} $bytes at]} {
        lassign $at first last
        append result [string range $bytes 0 $first-1]
        append result [binary format H2 [string range $bytes $first+1 $last]]
        set bytes [string range $bytes $last+1 end]
    }
    return [encoding convertfrom utf-8 $result$bytes]
}

# The HTML of a template: text in which Tcl commands in brackets are replaced by their results.
# The result is bytes, ready for a binary channel.
proc ::tclchan::httpd::render file {
    set in [open $file]
    try {
        fconfigure $in -encoding utf-8
        set text [read $in]
    } finally {
        close $in
    }
    return [encoding convertto utf-8 [apply {text {subst $text} ::tclchan::httpd} $text]]
}

# A page that lists what there is to find in a directory. Its links are relative: find makes sure of
# the slash at the end.
proc ::tclchan::httpd::listing {directory path} {
    set row {<tr><td><a href="%s">%s</a></td><td>%s</td></tr>}
    set rows {}
    if {[string trim $path /] ne ""} { lappend rows [format $row ../ ../ ""] }
    foreach file [lsort -dictionary [glob -nocomplain -directory $directory *]] {
        # Tcl puts "./" in front of a name like "~user".
        regsub {^\./} [file tail $file] "" name
        if {[file isdirectory $file]} { append name / }
        if {[lindex [find $directory /[encode $name]] 0] eq "missing"} continue
        set size [expr {[file isfile $file] ? [file size $file] : ""}]
        lappend rows [format $row ./[encode $name] [escape $name] $size]
    }
    set title "Index of [escape $path]"
    return [encoding convertto utf-8 "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>$title</title>
<style>body{font:1rem/1.6 system-ui,sans-serif;margin:2rem auto;max-width:48rem;padding:0 1rem}
td+td{padding-left:3rem;text-align:right;font-variant-numeric:tabular-nums}</style></head>
<body><h1>$title</h1><table>[join $rows \n]</table></body></html>
"]
}

# Percent-encode a path for use in a URL.
proc ::tclchan::httpd::encode path {
    binary scan [encoding convertto utf-8 $path] cu* bytes
    set result ""
    foreach byte $bytes {
        set char [format %c $byte]
        append result [expr {[regexp {[A-Za-z0-9/._-]} $char] ? $char : [format %%%02X $byte]}]
    }
    return $result
}

# A snapshot of the running server: what /stats.json says, and what a template can show.
proc ::tclchan::httpd::stats {} {
    variable server
    variable since
    set counters [::iocp::stats]
    set engine [dict get $counters engine]
    dict unset counters engine
    dict set result server $server
    dict set result engine $engine
    dict set result driver [package provide Iocpsock]
    dict set result tcl [info patchlevel]
    dict set result uptime [format %.3f [expr {([clock milliseconds] - $since) / 1000.0}]]
    dict set result connections [llength [connections]]
    dict set result channels [llength [file channels]]
    dict set result counters $counters
    return $result
}

proc ::tclchan::httpd::stats_json {} {
    set stats [stats]
    set members [lmap {name value} [dict get $stats counters] {format {"%s":%s} $name $value}]
    dict set stats counters \{[join $members ,]\}
    set members [lmap {name value} $stats {
        if {$name in {server engine driver tcl}} { set value \"$value\" }
        format {"%s":%s} $name $value
    }]
    return \{[join $members ,]\}\n
}

# The channels of the clients that are connected now. (A -peername takes a look-up of its name.)
proc ::tclchan::httpd::connections {} {
    set listeners [listeners]
    lmap chan [file channels iocp*] { if {$chan in $listeners} continue; set chan }
}

# The connections at one of the ports, those that a server has given to interpreters of its own too.
# Others are the site's own, to other servers.
proc ::tclchan::httpd::clients {ports {path {}}} {
    set clients {}
    set listeners [listeners]
    foreach chan [interp eval $path {file channels iocp*}] {
        set query [list fconfigure $chan -sockname]
        if {$chan in $listeners || [catch {interp eval $path $query} name]} continue
        if {[lindex $name 2] in $ports} { lappend clients $chan }
    }
    foreach child [interp slaves $path] {
        interp eval [concat $path [list $child]] {set ::tcl::unsupported::noReverseDNS 1}
        lappend clients {*}[clients $ports [concat $path [list $child]]]
    }
    return $clients
}

proc ::tclchan::httpd::listeners {} {
    lmap chan [file channels iocp*] {
        if {[catch {fconfigure $chan -accepting}]} continue
        set chan
    }
}

# Let every connection end at once when it is closed, giving up what its client has not yet taken:
# one slow reader must not delay the end of the process.
proc ::tclchan::httpd::hurry {} {
    # Options of a channel cannot be set while fcopy writes to it: closing the source ends the copy.
    # The standard channels stay as they are: others may have them, too.
    foreach chan [file channels] {
        if {![string match iocp* $chan] && ![string match std* $chan]
            && [catch {fconfigure $chan -blocking 0} message]
            && [string match "*copy in progress*" $message]} {
            catch {close $chan}
        }
    }
    foreach chan [connections] { catch {fconfigure $chan -blocking 0 -linger 0} }
}

proc ::tclchan::httpd::hang_up {} {
    hurry
    foreach chan [connections] { catch {close $chan} }
}

# Let the servers' fcopy, and "chan copy", be iocp::copy; or, when they stop, Tcl's own again.
proc ::tclchan::httpd::zero_copy on {
    foreach name {::fcopy ::tcl::chan::copy} {
        set kept ::tclchan::httpd::kept_[namespace tail $name]
        if {$on && [info commands $kept] eq ""} {
            rename $name $kept
            interp alias {} $name {} ::iocp::copy
        } elseif {!$on && [info commands $kept] ne ""} {
            interp alias {} $name {}
            rename $kept $name
        }
    }
}

# Package require for a server: says what to install when it is not there.
proc ::tclchan::httpd::need {package version debian} {
    if {[catch {package require $package $version} message]} {
        if {![string match "can't find package*" $message]} { error $message $::errorInfo }
        if {$::tcl_platform(platform) eq "windows"} {
            set remedy "have the directory of $debian for this Tcl in the variable TCLLIBPATH"
        } else {
            set remedy "install it with \"apt-get install $debian\""
        }
        return -code error -errorcode [list TCLCHAN MISSING $debian] "$message: $remedy"
    }
}

proc ::tclchan::httpd::port_of listener {
    lindex [fconfigure $listener -sockname] 2
}

# Evaluate a script whose messages on stderr are of no use to anyone: a server's own start-up
# banner, which names a port of 0 and a host that it does not listen on.
proc ::tclchan::httpd::quietly script {
    chan push stderr ::tclchan::httpd::Silence
    try {
        uplevel 1 $script
    } finally {
        chan pop stderr
    }
}

namespace eval ::tclchan::httpd::Silence {
    proc initialize {chan mode} { return {initialize finalize write} }
    proc finalize chan {}
    proc write {chan bytes} {}
    namespace export *
    namespace ensemble create
}
