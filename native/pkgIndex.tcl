# Either name loads the library, which provides both packages.
if {![package vsatisfies [package provide Tcl] 8.6]} {
    return
}
package ifneeded Iocpsock 3.1 [list load [file join $dir libiocpsock.so] Iocpsock]
package ifneeded iocpsock 3.1 [list load [file join $dir libiocpsock.so] Iocpsock]
