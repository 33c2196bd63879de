/*
 * iocpAccept.c --
 *	The script of socket2 -server: which interpreter runs it, and what becomes of it when that
 *	interpreter or the listener goes.
 */

#include "iocpInt.h"

/*
 * What a listener's accept procedure needs. It goes with the channel (IocpAcceptScriptFree); interp
 * becomes NULL if the interpreter goes first (InterpDeleted). Either may come first when an
 * interpreter that owns the channel is deleted, hence the links to both sides: no look-up is
 * needed to get off the list. And either may be in another thread, between the listener's transfer
 * and IocpAcceptTakeOn: the mutex guards the links, and interp while the listener has moved.
 */
struct IocpAcceptScript {
    Tcl_Interp *interp;
    int safe;			/* A safe interpreter has made it. */
    int isList;			/* The script is one command, written as Tcl writes a list. */
    IocpAcceptScript *nextPtr;	/* The others of the interpreter. */
    IocpAcceptScript **linkPtr;	/* What points to this one; NULL: not on a list any more. */
    char script[];
};

#define ASSOC_KEY "iocp::acceptScripts"

static IocpMutex acceptMutex = IOCP_MUTEX_INIT;

/*
 * IocpAcceptForked --
 *	In a forked child: another thread of the parent may have been at the lists.
 */
void
IocpAcceptForked(void)
{
    static const IocpMutex unlocked = IOCP_MUTEX_INIT;

    acceptMutex = unlocked;
}

/*
 * InterpDeleted --
 *	The interpreter goes: its listeners that live on close what they accept.
 */
static void
InterpDeleted(void *clientData, Tcl_Interp *interp)
{
    IocpAcceptScript **listPtr = clientData;

    (void)interp;
    IocpMutexLock(&acceptMutex);
    for (IocpAcceptScript *acceptPtr = *listPtr; acceptPtr != NULL;
	    acceptPtr = acceptPtr->nextPtr) {
	acceptPtr->interp = NULL;
	acceptPtr->linkPtr = NULL;
    }
    IocpMutexUnlock(&acceptMutex);
    Tcl_Free((char *)listPtr);
}

static void
Unlink(IocpAcceptScript *acceptPtr)
{
    if (acceptPtr->linkPtr != NULL) {
	*acceptPtr->linkPtr = acceptPtr->nextPtr;
	if (acceptPtr->nextPtr != NULL) {
	    acceptPtr->nextPtr->linkPtr = acceptPtr->linkPtr;
	}
    }
}

/*
 * Adopt --
 *	From now on, interp runs the script.
 */
static void
Adopt(IocpAcceptScript *acceptPtr, Tcl_Interp *interp)
{
    IocpAcceptScript **listPtr = Tcl_GetAssocData(interp, ASSOC_KEY, NULL);

    if (listPtr == NULL) {
	listPtr = (IocpAcceptScript **)Tcl_Alloc(sizeof(IocpAcceptScript *));
	*listPtr = NULL;
	Tcl_SetAssocData(interp, ASSOC_KEY, InterpDeleted, listPtr);
    }
    IocpMutexLock(&acceptMutex);
    Unlink(acceptPtr);
    acceptPtr->interp = interp;
    acceptPtr->nextPtr = *listPtr;
    acceptPtr->linkPtr = listPtr;
    if (acceptPtr->nextPtr != NULL) {
	acceptPtr->nextPtr->linkPtr = &acceptPtr->nextPtr;
    }
    *listPtr = acceptPtr;
    IocpMutexUnlock(&acceptMutex);
}

void
IocpAcceptScriptFree(void *clientData)
{
    IocpAcceptScript *acceptPtr = clientData;

    IocpMutexLock(&acceptMutex);
    Unlink(acceptPtr);
    IocpMutexUnlock(&acceptMutex);
    Tcl_Free((char *)acceptPtr);
}

/*
 * IsList --
 *	Whether a script is just what Tcl would write for a list: then its words are the elements.
 */
static int
IsList(const char *script)
{
    Tcl_Size argc;
    const char **argv;
    char *list;
    int same;

    if (Tcl_SplitList(NULL, script, &argc, &argv) != TCL_OK) {
	return 0;
    }
    list = Tcl_Merge(argc, argv);
    same = strcmp(list, script) == 0;
    Tcl_Free(list);
    Tcl_Free((char *)argv);
    return same;
}

IocpAcceptScript *
IocpAcceptScriptNew(Tcl_Interp *interp, Tcl_Obj *scriptPtr)
{
    IocpAcceptScript *acceptPtr;
    const char *script;

    /*
     * The arguments come behind the script as it is; in Tcl 9, behind its last word.
     */

    if (TCL_MAJOR_VERSION >= 9) {
	scriptPtr = Tcl_ConcatObj(1, &scriptPtr);
    }
    Tcl_IncrRefCount(scriptPtr);
    script = Tcl_GetString(scriptPtr);
    acceptPtr = (IocpAcceptScript *)Tcl_Alloc(
	    (unsigned)(sizeof(IocpAcceptScript) + strlen(script) + 1));
    acceptPtr->safe = Tcl_IsSafe(interp);
    acceptPtr->isList = IsList(script);
    acceptPtr->linkPtr = NULL;
    strcpy(acceptPtr->script, script);
    Tcl_DecrRefCount(scriptPtr);
    Adopt(acceptPtr, interp);
    return acceptPtr;
}

/*
 * IocpAcceptTakeOn --
 *	The listener has come from another thread, whose interpreters are out of reach. Its script
 *	is a string: the interpreter of this thread that has the channel takes it on, if it has
 *	loaded the package. What a safe interpreter has made runs in a safe one only.
 * Results:
 *	0 if there is none.
 */
int
IocpAcceptTakeOn(IocpAcceptScript *acceptPtr, IocpChan *chanPtr)
{
    for (IocpInterp *interpPtr = chanPtr->threadPtr->interpsPtr; interpPtr != NULL;
	    interpPtr = interpPtr->nextPtr) {
	Tcl_Interp *interp = interpPtr->interp;

	if (!Tcl_InterpDeleted(interp) && Tcl_IsChannelRegistered(interp, chanPtr->channel)
		&& (!acceptPtr->safe || Tcl_IsSafe(interp))) {
	    Adopt(acceptPtr, interp);
	    return 1;
	}
    }
    return 0;
}

/*
 * Command --
 *	The script with its arguments. In a list they are objects, so that the procedure gets this
 *	one for the channel's name.
 */
static Tcl_Obj *
Command(const IocpAcceptScript *acceptPtr, Tcl_Obj *namePtr, const char *address, int port)
{
    Tcl_Obj *commandPtr;

    if (!acceptPtr->isList) {
	return Tcl_ObjPrintf("%s %s %s %d", acceptPtr->script, Tcl_GetString(namePtr), address,
		port);
    }
    commandPtr = Tcl_NewStringObj(acceptPtr->script, -1);
    Tcl_ListObjAppendElement(NULL, commandPtr, namePtr);
    Tcl_ListObjAppendElement(NULL, commandPtr, Tcl_NewStringObj(address, -1));
    Tcl_ListObjAppendElement(NULL, commandPtr, Tcl_NewIntObj(port));
    return commandPtr;
}

/*
 * The frame in which accept scripts run, as those of the core's socket do: with Tcl 9 it is the
 * global one, with Tcl 8.6 that of the procedure or namespace whose vwait or update serves them.
 */
#if TCL_MAJOR_VERSION < 9
#define ACCEPT_FRAME 0
#else
#define ACCEPT_FRAME TCL_EVAL_GLOBAL
#endif

/*
 * IocpAcceptProc --
 *	Call the script of socket2 -server with the channel, the address and the port. Without its
 *	interpreter, nobody can take the connection.
 */
void
IocpAcceptProc(void *clientData, Tcl_Channel channel, char *address, int port)
{
    IocpAcceptScript *acceptPtr = clientData;
    Tcl_Interp *interp = acceptPtr->interp;
    Tcl_Obj *commandPtr, *namePtr;
    int result;

    if (interp == NULL) {
	IOCP_COUNT(((IocpChan *)Tcl_GetChannelInstanceData(channel))->threadPtr, acceptErrors, 1);
	Tcl_Close(NULL, channel);
	return;
    }
    Tcl_Preserve(interp);
    Tcl_RegisterChannel(interp, channel);
    Tcl_RegisterChannel(NULL, channel);	/* The script may close it. */
    namePtr = IocpNameNew(Tcl_GetChannelInstanceData(channel));
    Tcl_IncrRefCount(namePtr);	/* The script may end Tcl, and the channel with it. */
    commandPtr = Command(acceptPtr, namePtr, address, port);
    Tcl_IncrRefCount(commandPtr);
    result = Tcl_EvalObjEx(interp, commandPtr, ACCEPT_FRAME | TCL_EVAL_DIRECT);
    Tcl_DecrRefCount(commandPtr);
    IocpNameForget(namePtr);
    Tcl_DecrRefCount(namePtr);
    if (result != TCL_OK) {
	Tcl_BackgroundException(interp, result);
	Tcl_UnregisterChannel(interp, channel);
    }
    Tcl_UnregisterChannel(NULL, channel);
    Tcl_Release(interp);
}
