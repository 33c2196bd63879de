# Runs every .test file of this directory, each in a process of its own, on one engine.
#
#   TCLCHAN_LIBDIR=DIR TCLCHAN_ENGINE=io_uring tclsh all.tcl ?-file PATTERN? ?tcltest options?
#
# With TCLCHAN_REQUIRE="NAME ..." it is an error of a file that one of these constraints (testing,
# thread, ...; see common.tcl) does not hold, or that none of its tests has passed.
#
# Exits with 1 when a test failed, a file ended before its end, or anything came on stderr.

package require Tcl 8.6-
package require tcltest 2.5
set testDir [file dirname [file normalize [info script]]]
source [file join $testDir load.tcl]

proc describe {} {
    set kernel "$::tcl_platform(os) $::tcl_platform(osVersion)"
    set tcl "Tcl [info patchlevel]"
    if {[info commands ::iocp::engine] eq ""} {
        return "engine: none, socket2 is the core's socket; kernel: $kernel; $tcl"
    }
    set lines [list "engine: [iocp::engine]; kernel: $kernel; $tcl"]
    foreach info [iocp::engines] {
        if {[dict get $info name] eq [iocp::engine]} {
            continue
        }
        if {![dict get $info usable]} {
            set why [dict get $info reason]
        } elseif {[info exists ::env(TCLCHAN_ENGINE)] && $::env(TCLCHAN_ENGINE) ni {{} auto}} {
            set why "TCLCHAN_ENGINE asks for $::env(TCLCHAN_ENGINE)"
        } else {
            set why "it comes later in the order of preference"
        }
        lappend lines "not used: [dict get $info name]: $why"
    }
    return [join $lines \n]
}

puts [describe]
tcltest::configure -testdir $testDir {*}$argv
exit [tcltest::runAllTests]
