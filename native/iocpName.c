/*
 * iocpName.c --
 *	The names of channels, as scripts have them.
 *
 *	Where a command is given the name of a channel, Tcl remembers in that object which channel
 *	it is, and preserves that (Tcl_Preserve). All that is preserved in the process is in one
 *	array, which is searched from its beginning several times for each event. Handlers keep
 *	their channels' names: "fileevent $chan readable [list Handle $chan]". So with thousands of
 *	connections, most of a server's time goes there.
 *
 *	What to do about it: the object that a script gets as the name is known here, and is made to
 *	forget the channel when an event of it has been told, and when Tcl, which tells by itself of
 *	what it has read ahead, says what is watched for (WatchProc). Of the channels of their own
 *	thread, only those whose events are being told are in the array then. (A channel that came
 *	from another thread is known to its script by an object that Tcl has made.)
 */

#include "iocpInt.h"

/*
 * IocpNameNew --
 *	The channel's name for a script. The channel has the object as well, so that it stays a
 *	string: who changes it gets a copy.
 */
Tcl_Obj *
IocpNameNew(IocpChan *chanPtr)
{
    IocpNameDrop(chanPtr);
    chanPtr->namePtr = Tcl_NewStringObj(Tcl_GetChannelName(chanPtr->channel), -1);
    Tcl_IncrRefCount(chanPtr->namePtr);
    return chanPtr->namePtr;
}

/*
 * IocpNameForget --
 *	The object is to be nothing but a string, if Tcl remembers a channel in it. It may be NULL.
 */
void
IocpNameForget(Tcl_Obj *namePtr)
{
    const Tcl_ObjType *typePtr = namePtr == NULL ? NULL : namePtr->typePtr;

    if (typePtr != NULL && strcmp(typePtr->name, "channel") == 0) {
	typePtr->freeIntRepProc(namePtr);
	namePtr->typePtr = NULL;
    }
}

/*
 * IocpNameDrop --
 *	The channel is closed, or leaves the thread, whose objects are its own.
 */
void
IocpNameDrop(IocpChan *chanPtr)
{
    if (chanPtr->namePtr != NULL) {
	Tcl_DecrRefCount(chanPtr->namePtr);
	chanPtr->namePtr = NULL;
    }
}
