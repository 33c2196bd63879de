# What every test file sources first: the driver, constraints with their reasons, and helpers.
#
# A test ends with `-cleanup tidy`, which closes what the test left open, and fails the test when a
# background error came that the test did not ask for (see `bgerrors`). A file ends with `finish`.

package require tcltest 2.5
if {[info exists ::argv]} {
    tcltest::configure {*}$::argv
}
# Where another program than a tclsh hosts this Tcl, child processes need one all the same.
if {[info exists ::env(TCLCHAN_TCLSH)]} {
    tcltest::interpreter $::env(TCLCHAN_TCLSH)
}

namespace eval tt {
    variable dir [file dirname [file normalize [info script]]]
    variable loader [list source [file join $dir load.tcl]]
    variable accepted {}
    variable bgerrors {}
    variable peer ""
    variable children {}
    variable files {}
    variable needs {}
    variable keep {}
    variable finished 0
    variable reasons {}
    variable serial 0
    variable block ""
    variable windows [expr {$::tcl_platform(platform) eq "windows"}]
    # In order of preference; a driver built for testing has one more.
    variable engines [expr {$windows ? {iocp} : {io_uring epoll}}]
    # A name that has no address, which nobody is asked about.
    variable noName [expr {$windows ? "no such host" : ""}]
    # What prints a file.
    variable cat [expr {$windows ? [auto_execok type] : "cat"}]
    variable isCore [expr {
        [info exists ::env(TCLCHAN_TEST_CORE)] && $::env(TCLCHAN_TEST_CORE) eq "1"
    }]
    variable soak [expr {[info exists ::env(TCLCHAN_SOAK)] && $::env(TCLCHAN_SOAK) eq "1"}]
    variable deadlineMs [expr {$soak ? 600000 : 20000}]
    variable python python3
    if {[info exists ::env(TCLCHAN_PYTHON)]} {
        set python $::env(TCLCHAN_PYTHON)
    }
    # Sanitizers keep freed memory, or have much of their own, so how much there is says nothing.
    variable sanitized [expr {
        [info exists ::env(LD_PRELOAD)] && [string match {*[at]san*} $::env(LD_PRELOAD)]
    }]
    # How many times as long everything may take: they slow it down, side by side even more; and
    # Windows may be one that is emulated.
    variable slow [expr {$sanitized ? 6 : $windows ? 4 : 1}]
}
{*}$tt::loader

# A file that stops half-way must not look like one that passed.
rename exit tt::exit
proc exit {{code 0}} {
    if {!$::tt::finished} {
        puts stderr "the test file ended before its end"
        ::tt::exit 3
    }
    ::tt::exit $code
}

proc finish {} {
    set ::tt::finished 1
    set passed $::tcltest::numTests(Passed)
    ::tcltest::cleanupTests
    stopPeer
    set failed [expr {[llength $::tt::leftovers] > 0}]
    if {[info exists ::env(TCLCHAN_REQUIRE)] && $passed == 0} {
        puts stderr "TCLCHAN_REQUIRE: no test has passed"
        set failed 1
    }
    foreach line $::tt::leftovers {
        puts stderr $line
    }
    exit $failed
}
set tt::leftovers {}

# constrain NAME BOOLEAN REASON --
#	Define a test constraint. The reason is printed, so that a skipped test is explained. One
#	that TCLCHAN_REQUIRE names must hold: who asks for it wants no test skipped for its sake.
proc constrain {name value reason} {
    ::tcltest::testConstraint $name $value
    if {![::tcltest::testConstraint $name]} {
        # Wine leaves lines of its own without an end.
        puts "[expr {$::tt::windows ? "\n" : ""}]without $name: $reason"
        if {[info exists ::env(TCLCHAN_REQUIRE)] && $name in $::env(TCLCHAN_REQUIRE)} {
            puts stderr "TCLCHAN_REQUIRE: without $name: $reason"
            ::tt::exit 4
        }
    }
}

proc tt::packageReason {name} {
    if {[catch {package require $name} message]} {
        return $message
    }
    return ""
}

proc tt::constraints {} {
    variable isCore
    variable windows
    constrain driver [expr {!$isCore}] "socket2 is the core's socket (TCLCHAN_TEST_CORE=1)"
    constrain core $isCore "socket2 is the driver's"
    if {$isCore} {
        set engine none
    } else {
        set engine [iocp::engine]
    }
    foreach name {io_uring epoll iocp sim} {
        constrain engine_$name [expr {$engine eq $name}] "this run uses $engine"
    }
    # What the kernel has, a call sees without the event loop in between.
    constrain immediate [expr {$engine ne "sim"}] "the engine sim shows things later on purpose"
    constrain acceptsAsked [expr {$engine ne "io_uring"}] \
        "io_uring accepts what the kernel's queue holds"
    constrain testing [llength [info commands ::iocp::test]] "the driver was built without testing"
    foreach {name package} {thread Thread tls tls} {
        set reason [packageReason $package]
        constrain $name [expr {$reason eq ""}] $reason
    }
    # What Windows does not do, and what Wine does not do as Windows. It has a program of its own.
    constrain qos [expr {!$windows}] "Windows leaves it to its administrator"
    constrain coreHalf [expr {!$windows}] "there, the core reads nothing after a half close"
    constrain host [expr {!$windows}] "on Windows, the event loop is Tcl's"
    constrain unix [expr {!$windows}] "Windows has not the programs of Unix, nor its descriptors"
    constrain reuseport [expr {!$windows}] "Windows has no SO_REUSEPORT"
    constrain streams [expr {!$windows}] "Windows need not send what waits when -nagle is set to 0"
    constrain unsent [expr {!$windows}] "Windows does not tell what it has still to send"
    set wine [expr {$windows && [file exists $::env(SystemRoot)/system32/wineboot.exe]}]
    constrain resets [expr {!$wine}] "Wine forgets a reset that comes when nothing is received"
    constrain resetsAnytime [expr {!$wine || $engine ne "sim"}] \
        "Wine forgets a reset while the engine sim receives nothing"
    constrain rebind [expr {!$wine}] "with Wine, a port stays taken when its connections are closed"
    constrain zlib [llength [info commands ::zlib]] "this Tcl was built without zlib"
    set reason ""
    if {[catch {close [socket -server none -myaddr ::1 0]} message]} {
        set reason "::1 cannot be bound: $message"
    }
    constrain ipv6 [expr {$reason eq ""}] $reason
    set reason ""
    if {[catch {exec $::tt::python -c "import socket"} message]} {
        set reason "no Python for the peer process: $message"
    }
    constrain peer [expr {$reason eq ""}] $reason
    # Under Wine there is one, and its processes are not those of Windows.
    constrain proc [expr {!$windows && [file isdirectory /proc/self/fd]}] "no /proc file system"
    # A name with an address of either family, in whatever order, needs a hosts file of our own.
    set reason ""
    if {[catch {exec unshare -m -r sh -c true 2>@1} message]} {
        set reason "no mount namespace of our own for a hosts file: $message"
    }
    constrain hosts [expr {$reason eq ""}] $reason
    set reason ""
    if {[catch {exec $::tt::python [file join $::tt::dir noring.py] true} message]} {
        set reason "io_uring cannot be forbidden for a child: [lindex [split $message \n] end]"
    }
    constrain seccomp [expr {$reason eq ""}] $reason
    constrain notRoot [expr {!$windows && [exec id -u] != 0}] "this user may bind any port"
}

# test --
#	tcltest's, which runs the parts of a test at global level: `tidy` removes the variables that
#	this test makes, so that none of them reaches the next one. With TCLCHAN_LIST=1 nothing is
#	tested, and the names of all tests are printed.
proc test {args} {
    if {[info exists ::env(TCLCHAN_LIST)] && $::env(TCLCHAN_LIST) eq "1"} {
        puts "test [lindex $args 0]"
        return
    }
    set ::tt::globals [info globals]
    set options [lassign $args name description]
    if {[llength $::tt::needs]} {
        dict lappend options -constraints {*}$::tt::needs
    }
    uplevel 1 [list ::tcltest::test $name $description {*}$options]
}

# needs CONSTRAINT ... --
#	Every test from here on has these constraints, too.
proc needs {args} {
    set ::tt::needs $args
}

# often SHORT LONG --
#	How many times to repeat what goes wrong once in a long while: SHORT in every run of the
#	tests, LONG in `make soak` (TCLCHAN_SOAK=1).
proc often {short long} {
    return [expr {$::tt::soak ? $long : $short}]
}

# waitFor CONDITION ?MS? --
#	Run the event loop until the expression is true, in the caller's scope. The one place with a
#	deadline: it is far longer than any test needs, and passing it is an error, never a result.
proc waitFor {condition {ms ""}} {
    if {$ms eq ""} {
        set ms $::tt::deadlineMs
    }
    set deadline [expr {[clock milliseconds] + $ms * $::tt::slow}]
    while {![uplevel 1 [list expr $condition]]} {
        if {[clock milliseconds] > $deadline} {
            return -code error "timed out after $ms ms: $condition"
        }
        set name ::tt::tick[incr ::tt::serial]
        after 2 [list set $name 1]
        vwait $name
        unset -nocomplain $name
    }
    return
}

# waitStable SCRIPT --
#	Run the event loop until the script has given the same value 50 times in a row; the value.
#	For what must come to a stop and be seen to stay there.
proc waitStable {script} {
    set last ""
    set same 0
    waitFor {[set value [uplevel 1 $script]] eq $last
        ? [incr same] > 50
        : [string length [set last $value]] < 0 || [set same 0]}
    return $last
}

# turns N --
#	Let everything happen that is ready to happen, N times over, without waiting for anything.
proc turns {{count 20}} {
    for {set i 0} {$i < $count} {incr i} {
        set name ::tt::turn[incr ::tt::serial]
        after 0 [list set $name 1]
        vwait $name
        unset $name
    }
}

# Threads --------------------------------------------------------------------------------------

# inThread SCRIPT --
#	A thread that has loaded the driver and run the script; it may call `tell WORDS` to append
#	to the global variable `told` here.
proc inThread {script} {
    set thread [thread::create -joinable {thread::wait}]
    thread::send $thread [list set env(TCLCHAN_LIBDIR) $::env(TCLCHAN_LIBDIR)]
    thread::send $thread $::tt::loader
    thread::send $thread [list proc tell args [string map [list @MAIN@ [thread::id]] {
        thread::send -async @MAIN@ [list lappend ::told {*}$args]
    }]]
    thread::send $thread $script
    return $thread
}

proc endThread {thread} {
    thread::release $thread
    thread::join $thread
}

# Sockets --------------------------------------------------------------------------------------

# The last address is kept: leak tests accept thousands.
proc tt::accept {chan address port} {
    variable accepted
    lappend accepted $chan
    array unset ::tt::address
    set ::tt::address($chan) [list $address $port]
}

proc listener {args} {
    return [socket2 -server ::tt::accept {*}$args -myaddr 127.0.0.1 0]
}

proc portOf {chan} {
    return [lindex [fconfigure $chan -sockname] 2]
}

# nextAccepted --
#	Wait for the next connection that a listener made by `listener` or `pair` took.
proc nextAccepted {} {
    waitFor {[llength $::tt::accepted] > 0}
    set ::tt::accepted [lassign $::tt::accepted chan]
    return $chan
}

# crowd LISTENER COUNT --
#	Have the peer process connect, COUNT clients at a time, until some are accepted ahead of the
#	script: those of one time may all be delivered before one is seen to wait. Their peerIds.
proc crowd {listener count} {
    set ids {}
    for {set i 0} {[lindex [fconfigure $listener -backlog] 1] == 0} {incr i} {
        if {$i > 5000} {
            return -code error "nothing is accepted ahead of the script"
        }
        if {$i % 1000 == 0} {
            lappend ids {*}[peer many [portOf $listener] $count]
        }
        turns 1
    }
    return $ids
}

# pair ?SERVERCOMMAND? ?CLIENTCOMMAND? ?LISTENER OPTIONS? --
#	Two ends of a connection, both binary and blocking: {server client}.
proc pair {{serverCommand socket2} {clientCommand socket2} {options {}}} {
    set listener [$serverCommand -server ::tt::accept -myaddr 127.0.0.1 0]
    if {[llength $options]} {
        fconfigure $listener {*}$options
    }
    set client [$clientCommand 127.0.0.1 [portOf $listener]]
    set server [nextAccepted]
    close $listener
    fconfigure $server -translation binary
    fconfigure $client -translation binary
    return [list $server $client]
}

# peerPair --
#	A connection whose far end is in the peer process: {chan peerId}.
proc peerPair {{command socket2} {rcvbuf ""}} {
    set port [peer listen {*}$rcvbuf]
    set chan [$command 127.0.0.1 $port]
    fconfigure $chan -translation binary
    return [list $chan [lindex [peer accept $port] 0]]
}

proc opt {chan name} {
    return [fconfigure $chan $name]
}

# peerTakes ID --
#	Let the peer read all there is, to the end of the stream, while our event loop runs.
#	{count crc}
proc peerTakes {id} {
    waitFor {[lindex [peer take $id] 1] ne "0"}
    return [peer taken $id]
}

# outcome SCRIPT --
#	{code message errorCode} of the script, run in the caller's scope.
proc outcome {script} {
    set code [catch {uplevel 1 $script} message options]
    if {$code == 1} {
        return [list 1 $message [dict get $options -errorcode]]
    }
    return [list $code $message]
}

# normal TEXT --
#	The text with channel names replaced by what they have in common.
proc normal {text} {
    return [regsub -all {\m(?:iocp\d+|sock[[:xdigit:]]+)\M} $text CHAN]
}

# The stream that peer.py knows as well: COUNT bytes of it from byte START on.
proc payload {count {start 0}} {
    if {$::tt::block eq ""} {
        set seed 12345
        set bytes {}
        for {set i 0} {$i < 65537} {incr i} {
            set seed [expr {($seed * 1103515245 + 12345) & 0x7fffffff}]
            lappend bytes [expr {$seed >> 16 & 0xff}]
        }
        set ::tt::block [binary format cu* $bytes]
    }
    set skip [expr {$start % 65537}]
    set many [string repeat $::tt::block [expr {($skip + $count) / 65537 + 1}]]
    return [string range $many $skip [expr {$skip + $count - 1}]]
}

proc crc {data} {
    return [zlib crc32 $data]
}

# collect CHAN --
#	Read a non-blocking channel to its end through a readable handler; the data so far is in
#	::tt::got(CHAN), and ::tt::eof(CHAN) is set at its end.
proc collect {chan} {
    fconfigure $chan -blocking 0 -translation binary
    set ::tt::got($chan) ""
    set ::tt::eof($chan) 0
    fileevent $chan readable [list ::tt::collectMore $chan]
}

proc tt::collectMore {chan} {
    append ::tt::got($chan) [read $chan]
    if {[eof $chan]} {
        set ::tt::eof($chan) 1
        fileevent $chan readable {}
    }
}

proc got {chan} {
    return $::tt::got($chan)
}

proc atEnd {chan} {
    return $::tt::eof($chan)
}

# exchange CHAN CHAN COUNT ?AHEAD? ?FINISH? --
#	Send so many bytes both ways at the same time, each side as it is writable: the same million
#	over and over. With AHEAD no side sends more than that (and a million) before the other has
#	read it, for what must not be refused by the channel below. FINISH is called with each
#	channel that has written everything. The sums of what came at either end, when it is there.
proc exchange {one other count {ahead ""} {finish ""}} {
    set ::million [payload 1000000]
    if {$ahead eq ""} {
        set ahead $count
    }
    foreach {chan far} [list $one $other $other $one] {
        set ::left($chan) $count
        set ::sum($chan) {0 0}
        fconfigure $chan -buffersize 65536
        fileevent $chan writable [list tt::exchangeWrite $chan $far $count $ahead $finish]
        fileevent $chan readable [list tt::exchangeRead $chan]
    }
    waitFor {[lindex $::sum($one) 0] == $count && [lindex $::sum($other) 0] == $count} \
        [expr {max(60000, $::tt::deadlineMs)}]
    return [list $::sum($one) $::sum($other)]
}

proc tt::exchangeWrite {chan far count ahead finish} {
    if {$::left($chan) == 0} {
        flush $chan
        if {[chan pending output $chan] == 0} {
            fileevent $chan writable {}
            if {$finish ne ""} {
                {*}$finish $chan
            }
        }
    } elseif {$count - $::left($chan) - [lindex $::sum($far) 0] > $ahead} {
        # Who reads there looks again.
        fileevent $chan writable {}
        set ::tt::held($far) [list fileevent $chan writable [info level 0]]
    } elseif {$::left($chan) >= 1000000} {
        puts -nonewline $chan $::million
        incr ::left($chan) -1000000
    } else {
        puts -nonewline $chan [payload $::left($chan)]
        set ::left($chan) 0
    }
}

proc tt::exchangeRead {chan} {
    lassign $::sum($chan) count crc
    set data [read $chan 65536]
    set ::sum($chan) [list [expr {$count + [string length $data]}] [zlib crc32 $data $crc]]
    if {[info exists ::tt::held($chan)]} {
        {*}$::tt::held($chan)
        unset ::tt::held($chan)
    }
}

# bothSums COUNT --
#	What exchange gives when nothing is lost.
proc bothSums {count} {
    set crc 0
    set million [payload 1000000]
    for {set i 0} {$i < $count / 1000000} {incr i} {
        set crc [zlib crc32 $million $crc]
    }
    set crc [zlib crc32 [payload [expr {$count % 1000000}]] $crc]
    return [lrepeat 2 [list $count $crc]]
}

# relayPair FATE CHUNK OUT BACK ?LISTENER OPTIONS? --
#	Two ends with a relay in the peer between them, which moves CHUNK bytes at a time: OUT from
#	the client and BACK to it (-1: no limit). Then both see FATE, fin or rst. {server client}
proc relayPair {fate chunk out back {options {}}} {
    set listener [listener]
    if {[llength $options]} {
        fconfigure $listener {*}$options
    }
    set client [socket2 127.0.0.1 [peer relay [portOf $listener] $chunk $out $back $fate]]
    set server [nextAccepted]
    close $listener
    return [list $server $client]
}

# Resources ------------------------------------------------------------------------------------

# fds --
#	How many descriptors are open. A sanitizer's report, which is opened with the first finding
#	in whatever it may be, is not ours.
proc fds {} {
    set fds [glob -nocomplain -directory /proc/self/fd *]
    if {$::tt::sanitized} {
        set fds [lmap fd $fds {
            if {[catch {file readlink $fd} target] || [string match */report.[pid] $target]} {
                continue
            }
            set fd
        }]
    }
    return [llength $fds]
}

# residentBytes --
#	The memory of this process; always 0 where it says nothing.
proc residentBytes {} {
    if {$::tt::sanitized} {
        return 0
    }
    set file [open /proc/self/statm]
    set pages [lindex [read $file] 1]
    close $file
    return [expr {$pages * 4096}]
}

# cpuMs --
#	Processor time that this process has used, all threads, in milliseconds.
proc cpuMs {} {
    set file [open /proc/self/stat]
    set fields [split [lindex [split [read $file] )] end]]
    close $file
    return [expr {([lindex $fields 12] + [lindex $fields 13]) * 10}]
}

# resolvers --
#	How many threads of this process look names up.
proc resolvers {} {
    set count 0
    foreach name [glob -nocomplain /proc/self/task/*/comm] {
        # A thread that has ended meanwhile is none.
        if {![catch {open $name} file]} {
            catch {incr count [expr {[gets $file] eq "iocp-resolver"}]}
            close $file
        }
    }
    return $count
}

# stat NAME --
#	One counter of iocp::stats.
proc stat {name} {
    return [dict get [iocp::stats] $name]
}

# The peer process -----------------------------------------------------------------------------

proc peer {args} {
    if {$::tt::peer eq ""} {
        set ::tt::peer [open |[list $::tt::python [file join $::tt::dir peer.py]] r+]
        fconfigure $::tt::peer -buffering line
        lappend ::tt::keep $::tt::peer
    }
    puts $::tt::peer $args
    if {[gets $::tt::peer answer] < 0} {
        return -code error "the peer process ended"
    }
    if {[string match "error *" $answer]} {
        return -code error "peer $args: $answer"
    }
    return $answer
}

proc stopPeer {} {
    if {$::tt::peer ne ""} {
        close $::tt::peer
        set ::tt::peer ""
    }
}

# Child processes ------------------------------------------------------------------------------

# child SCRIPT ?ARGUMENTS? ?PREFIX? --
#	Start a tclsh that loads the driver and runs the script, behind a pipe. PREFIX is a command
#	that gets the tclsh's command line as further words.
proc child {script {arguments {}} {prefix {}}} {
    set body "$::tt::loader\nfconfigure stdout -buffering line\n$script\n"
    set out [file tempfile file tclchan.tcl]
    puts -nonewline $out $body
    close $out
    set pipe [open |[list {*}$prefix [::tcltest::interpreter] $file {*}$arguments 2>@1] r+]
    fconfigure $pipe -buffering line
    lappend ::tt::children $pipe $file
    return $pipe
}

# childResult PIPE --
#	Everything that a child still prints; {output exitCode}. The event loop runs meanwhile.
proc childResult {pipe {ms 20000}} {
    fconfigure $pipe -blocking 0
    set ::tt::childOutput($pipe) ""
    set ::tt::childEnd($pipe) 0
    fileevent $pipe readable [list ::tt::childMore $pipe]
    waitFor {$::tt::childEnd($pipe)} $ms
    fconfigure $pipe -blocking 1
    set code 0
    if {[catch {close $pipe} message options]} {
        set code [dict get $options -errorcode]
        if {[lindex $code 0] eq "CHILDSTATUS"} {
            set code [lindex $code 2]
        }
    }
    return [list [string trimright $::tt::childOutput($pipe) \n] $code]
}

proc tt::childMore {pipe} {
    append ::tt::childOutput($pipe) [read $pipe]
    if {[eof $pipe]} {
        fileevent $pipe readable {}
        set ::tt::childEnd($pipe) 1
    }
}

# withEngine NAME SCRIPT --
#	The same for a child that chooses the engine itself.
proc withEngine {name script} {
    set before [array get ::env TCLCHAN_ENGINE]
    set ::env(TCLCHAN_ENGINE) $name
    set pipe [child $script]
    unset -nocomplain ::env(TCLCHAN_ENGINE)
    array set ::env $before
    return [childResult $pipe]
}

# runChild SCRIPT ?ARGUMENTS? ?PREFIX? --
#	What a child printed; an error when it did not exit with 0.
proc runChild {script {arguments {}} {prefix {}}} {
    lassign [childResult [child $script $arguments $prefix]] output code
    if {$code ne "0"} {
        return -code error "child ended with $code: $output"
    }
    return $output
}

# withFiles {NAME CONTENT ...} SCRIPT ?ARGUMENT ...? --
#	The same for a child in whose eyes these files of the system have another content. They must
#	exist; needs the constraint hosts.
proc withFiles {files script args} {
    set mounts {}
    set temporary {}
    foreach {name content} $files {
        set out [file tempfile file]
        puts $out $content
        close $out
        lappend temporary $file
        append mounts "mount --bind $file $name && "
    }
    try {
        return [runChild $script $args [list unshare -m -r sh -c "${mounts}exec \"\$0\" \"\$@\""]]
    } finally {
        file delete {*}$temporary
    }
}

# withHosts LINES SCRIPT ?ARGUMENT ...? --
#	The same for a child that has these lines for a hosts file.
proc withHosts {lines script args} {
    return [withFiles [list /etc/hosts [join $lines \n]] $script {*}$args]
}

# Tidying up -----------------------------------------------------------------------------------

proc tt::bgerror {message options} {
    variable bgerrors
    lappend bgerrors $message
}
interp bgerror {} tt::bgerror

# bgerrors --
#	The background errors so far; asking for them is what makes them expected.
proc bgerrors {} {
    set list $::tt::bgerrors
    set ::tt::bgerrors {}
    return $list
}

# temporaryFile CONTENT --
#	The name of a new file, which goes away when the test is tidied up, after all channels.
proc temporaryFile {content} {
    set out [file tempfile name tclchan]
    fconfigure $out -translation binary
    puts -nonewline $out $content
    close $out
    lappend ::tt::files $name
    return $name
}

proc tidy {} {
    if {[::tcltest::testConstraint testing]} {
        iocp::test fault
        iocp::test alloc
    }
    foreach id [after info] {
        after cancel $id
    }
    foreach chan [chan names] {
        if {$chan ni $::tt::keep} {
            catch {fconfigure $chan -blocking 0}
            catch {close $chan}
        }
    }
    # What has still to be sent would wait for the peer to read it.
    if {$::tt::peer ne ""} {
        peer forget
    }
    # Closing may take turns of the event loop, and the next test counts descriptors.
    if {[::tcltest::testConstraint driver]} {
        set kept [llength [chan names iocp*]]
        waitFor {[stat socketsOpen] <= $kept}
    }
    foreach {pipe file} $::tt::children {
        file delete $file
    }
    set ::tt::children {}
    file delete {*}$::tt::files
    set ::tt::files {}
    set ::tt::accepted {}
    array unset ::tt::got
    array unset ::tt::eof
    array unset ::tt::address
    array unset ::tt::held
    array unset ::tt::childOutput
    array unset ::tt::childEnd
    foreach name [info globals] {
        if {$name ni $::tt::globals && $name ni {errorInfo errorCode}} {
            unset -nocomplain ::$name
        }
    }
    set unexpected [bgerrors]
    if {[llength $unexpected]} {
        return -code error "unexpected background errors: $unexpected"
    }
    return
}

# What is opened once for the life of the process (Tcl's notifier, the engine) is no leak later.
proc tt::warmUp {} {
    close [socket2 -server none -myaddr 127.0.0.1 0]
    turns 2
}

set tt::keep [chan names]
tt::constraints
tt::warmUp
