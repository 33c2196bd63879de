/*
 * iocpGuard.c --
 *	Guards: channels that never have anything to read and never take anything. A background
 *	fcopy between a channel and a guard makes Tcl itself treat that channel as busy, for as long
 *	as we like. Scripts never see a guard.
 *
 *	Whatever ends such an fcopy (a close, a transfer to another thread, the end of Tcl) sets the
 *	guard back to blocking: that is how we hear of it.
 *
 *	A guard, and the procedure that makes each move:
 *
 *	  free -> in use	IocpGuardGet		in use -> free	IocpGuardRelease
 *	  free -> gone		IocpGuardThreadEnds, or Tcl at the end of the thread
 */

#include "iocpInt.h"

#define STANDARD_CHANNELS 3

/* Belongs to its Tcl channel, and goes with it. */
struct IocpGuard {
    Tcl_Channel channel;
    IocpGuardProc *stoppedProc;
    void *clientData;		/* NULL: nobody is to be told. */
    int stopped;		/* Tcl has ended, or is just ending, the fcopy. */
    IocpGuard *nextPtr;		/* The next free one. */
};

static IOCP_THREAD_LOCAL IocpGuard *freePtr = NULL;

static int
CloseProc(void *instanceData, Tcl_Interp *interp, int flags)
{
    IocpGuard *guardPtr = instanceData;

    (void)interp;
    if (flags & (TCL_CLOSE_READ | TCL_CLOSE_WRITE)) {
	return 0;
    }
    for (IocpGuard **linkPtr = &freePtr; *linkPtr != NULL; linkPtr = &(*linkPtr)->nextPtr) {
	if (*linkPtr == guardPtr) {
	    *linkPtr = guardPtr->nextPtr;
	    break;
	}
    }
    free(guardPtr);
    return 0;
}

static int
InputProc(void *instanceData, char *buf, int toRead, int *errorCodePtr)
{
    (void)instanceData;
    (void)buf;
    (void)toRead;
    *errorCodePtr = EAGAIN;
    return -1;
}

static int
OutputProc(void *instanceData, const char *buf, int toWrite, int *errorCodePtr)
{
    (void)instanceData;
    (void)buf;
    (void)toWrite;
    *errorCodePtr = EAGAIN;
    return -1;
}

static void
WatchProc(void *instanceData, int mask)
{
    (void)instanceData;
    (void)mask;
}

static int
GetHandleProc(void *instanceData, int direction, void **handlePtr)
{
    (void)instanceData;
    (void)direction;
    (void)handlePtr;
    return TCL_ERROR;
}

static int
BlockModeProc(void *instanceData, int mode)
{
    IocpGuard *guardPtr = instanceData;

    if (mode == TCL_MODE_BLOCKING && guardPtr->clientData != NULL && !guardPtr->stopped) {
	guardPtr->stopped = 1;
	guardPtr->stoppedProc(guardPtr->clientData);
    }
    return 0;
}

static const Tcl_ChannelType guardType = {
    "iocpguard",
    TCL_CHANNEL_VERSION_5,
    TCL_CLOSE2PROC,		/* close */
    InputProc,
    OutputProc,
    NULL,			/* seek */
    NULL,			/* set option */
    NULL,			/* get option */
    WatchProc,
    GetHandleProc,
    CloseProc,
    BlockModeProc,
    NULL,			/* flush */
    NULL,			/* handler */
    NULL,			/* wide seek */
    NULL,			/* thread action */
    NULL			/* truncate */
};

/*
 * NewChannel --
 *	A channel that is none of the standard ones: when a script has closed one of those, Tcl
 *	makes the next new channel of it.
 */
static Tcl_Channel
NewChannel(IocpGuard *guardPtr)
{
    static _Atomic uint64_t nameCounter = 0;
    Tcl_Channel channel, standard[STANDARD_CHANNELS];
    int count = 0;
    char name[40];

    for (;;) {
	snprintf(name, sizeof(name), "iocpguard%llu",
		(unsigned long long)atomic_fetch_add(&nameCounter, 1) + 1);
	channel = Tcl_CreateChannel(&guardType, name, guardPtr, TCL_READABLE | TCL_WRITABLE);
	if (count == STANDARD_CHANNELS || !Tcl_IsStandardChannel(channel)) {
	    break;
	}
	standard[count++] = channel;
	guardPtr = calloc(1, sizeof(IocpGuard));
	if (guardPtr == NULL) {
	    Tcl_Panic("unable to alloc %lu bytes", (unsigned long)sizeof(IocpGuard));
	}
    }
    guardPtr->channel = channel;
    while (count > 0) {
	Tcl_UnregisterChannel(NULL, standard[--count]);
    }
    Tcl_SetChannelOption(NULL, channel, "-translation", "binary");
    return channel;
}

/*
 * IocpGuardGet --
 *	A guard for one fcopy, to be given back with IocpGuardRelease.
 * Results:
 *	NULL if out of memory.
 */
IocpGuard *
IocpGuardGet(void)
{
    IocpGuard *guardPtr = freePtr;

    if (guardPtr != NULL) {
	freePtr = guardPtr->nextPtr;
    } else {
	guardPtr = IOCP_OUT_OF_MEMORY() ? NULL : calloc(1, sizeof(IocpGuard));
	if (guardPtr == NULL) {
	    return NULL;
	}
	guardPtr = Tcl_GetChannelInstanceData(NewChannel(guardPtr));
    }
    guardPtr->stopped = 0;
    return guardPtr;
}

/*
 * IocpGuardTell --
 *	When its fcopy is ended by anybody else, call stoppedProc with clientData, which is not
 *	NULL, in the midst of that.
 */
void
IocpGuardTell(IocpGuard *guardPtr, IocpGuardProc *stoppedProc, void *clientData)
{
    guardPtr->stoppedProc = stoppedProc;
    guardPtr->clientData = clientData;
}

Tcl_Channel
IocpGuardChannel(const IocpGuard *guardPtr)
{
    return guardPtr->channel;
}

/*
 * IocpGuardRelease --
 *	End the guard's fcopy, unless Tcl is about to do that.
 */
void
IocpGuardRelease(IocpGuard *guardPtr)
{
    guardPtr->clientData = NULL;
    if (!guardPtr->stopped) {
	Tcl_ClearChannelHandlers(guardPtr->channel);
    }
    guardPtr->nextPtr = freePtr;
    freePtr = guardPtr;
}

/*
 * IocpGuardThreadEnds --
 *	The calling thread does not use the driver any more.
 */
void
IocpGuardThreadEnds(void)
{
    while (freePtr != NULL) {
	Tcl_Close(NULL, freePtr->channel);	/* Takes it off the list. */
    }
}
