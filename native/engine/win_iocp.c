/*
 * win_iocp.c --
 *	The engine of Windows: overlapped calls and an I/O completion port.
 *
 *	All engines of the process share one port, since a socket can be given to no second one, and
 *	channels change threads. A thread of the process, the dispatcher, waits at the port and puts
 *	what is complete into the queue of the engine whose it is. It wakes that engine's thread if
 *	it waits (WinWait), or has it alerted if the engine is armed (WinAlert). What is complete at
 *	once never gets to the port.
 *
 *	A request is what the kernel has of an op: one for each op, but for IOCP_OP_ACCEPT, which
 *	has one for each connection that is wanted. The moves:
 *
 *	  new -> the kernel's	WinSubmit, WinRecvFor
 *	  new -> ready		WinSubmit: it was complete at once, or failed
 *	  the kernel's -> done	Dispatcher
 *	  done -> ready		WinTakeDone
 *	  ready -> the kernel's	WinFinish: what was to be received, somebody else has
 *	  ready -> free		WinFinish: the op is reaped
 *
 *	A send that is broken off leaves the connection in a state that nobody knows. So it goes
 *	along with a channel that changes threads:
 *
 *	  the kernel's, done, ready -> left	WinLeave
 *	  left -> the kernel's, done		WinJoin
 *
 *	Sockets do not block, which overlapped calls do not care about: what is sent or received
 *	without waiting takes a plain call. A receive without buffers of its own waits with one of
 *	no bytes, so that an idle connection costs no buffer.
 */

#include "engine.h"

#define WIN_BATCH 64		/* Completions that the dispatcher fetches at once. */
#define WIN_FILE_MAX 262144	/* Bytes of one TransmitFile: nobody hears how far it is before. */
#define WIN_ADDRESS (sizeof(struct sockaddr_storage) + 16)	/* What AcceptEx asks for. */

/* IocpOp.engineFlags */
#define WIN_OPF_CANCEL 1

typedef struct WinEngine WinEngine;

/*
 * Belongs to its engine; while it is the kernel's, overlapped is the kernel's alone.
 */
typedef struct WinRequest {
    OVERLAPPED overlapped;	/* Must be first. */
    WinEngine *enginePtr;	/* NULL: left. */
    IocpOp *opPtr;
    struct WinRequest *nextPtr;	/* In a queue, or in the free list. */
    int complete;		/* Left, and not the kernel's any more. */
    int known;			/* The result is not overlapped's, but this: */
    int result;			/* a count or -errno. */
    IocpBuf *bufPtr;		/* The pool buffer that it was received into, or NULL. */
} WinRequest;

/* A request of IOCP_OP_ACCEPT, on the list at IocpOp.requestPtr. */
typedef struct WinAccept {
    WinRequest request;		/* Must be first. */
    SOCKET socket;
    struct WinAccept *siblingPtr;
    char addresses[2 * WIN_ADDRESS];
} WinAccept;

typedef struct WinQueue {
    WinRequest *firstPtr, *lastPtr;
} WinQueue;

struct WinEngine {
    IocpEngine base;
    WinQueue ready;		/* To be reaped. */
    WinRequest *freePtr;
    IocpBuf *freeBufPtr;	/* Pool buffers that nobody uses. */
    IocpPool pool;
    /* Under the mutex: */
    WinQueue done;		/* From the port. */
    CONDITION_VARIABLE wanted;	/* There is something in done. */
    int armed;
    IocpAlertProc *alertProc;	/* NULL: nobody is to be told. */
    void *alertData;
};

/* Of the process. The mutex guards it, and what the engines say of themselves. */
static SRWLOCK mutex = SRWLOCK_INIT;
static HANDLE port = NULL;	/* For ever. */
static LPFN_CONNECTEX connectEx = NULL;

static void
WinPut(WinQueue *queuePtr, WinRequest *requestPtr)
{
    requestPtr->nextPtr = NULL;
    *(queuePtr->firstPtr != NULL ? &queuePtr->lastPtr->nextPtr : &queuePtr->firstPtr)
	    = requestPtr;
    queuePtr->lastPtr = requestPtr;
}

/*
 * WinDone --
 *	A request is complete: its engine is to know. The mutex is locked, so that no alert comes
 *	after WinAlert has withdrawn the wish.
 */
static void
WinDone(WinRequest *requestPtr)
{
    WinEngine *winPtr = requestPtr->enginePtr;

    WinPut(&winPtr->done, requestPtr);
    WakeConditionVariable(&winPtr->wanted);
    if (winPtr->armed && winPtr->alertProc != NULL) {
	winPtr->armed = 0;
	winPtr->alertProc(winPtr->alertData);
    }
}

/*
 * Dispatcher --
 *	The body of the thread that waits at the port.
 */
static void *
Dispatcher(void *unused)
{
    OVERLAPPED_ENTRY entries[WIN_BATCH];
    ULONG count;

    (void)unused;
    IocpNameThread("iocp-dispatcher");
    for (;;) {
	if (!GetQueuedCompletionStatusEx(port, entries, WIN_BATCH, &count, INFINITE, FALSE)) {
	    continue;
	}
	AcquireSRWLockExclusive(&mutex);
	for (ULONG i = 0; i < count; i++) {
	    WinRequest *requestPtr = (WinRequest *)entries[i].lpOverlapped;

	    if (requestPtr->enginePtr == NULL) {
		requestPtr->complete = 1;
	    } else {
		WinDone(requestPtr);
	    }
	}
	ReleaseSRWLockExclusive(&mutex);
    }
    return NULL;
}

/*
 * GetConnectEx --
 *	Winsock hands this procedure out by a socket alone.
 * Results:
 *	0 or an errno.
 */
static int
GetConnectEx(void)
{
    GUID guid = WSAID_CONNECTEX;
    IocpSocket fd = IocpSocketOpen(AF_INET, 0);
    DWORD size;
    int error = 0;

    if (fd == IOCP_NO_SOCKET) {
	fd = IocpSocketOpen(AF_INET6, 0);
    }
    if (fd == IOCP_NO_SOCKET) {
	return errno;
    }
    if (WSAIoctl((SOCKET)fd, SIO_GET_EXTENSION_FUNCTION_POINTER, &guid, sizeof(guid), &connectEx,
	    sizeof(connectEx), &size, NULL, NULL) != 0) {
	error = IocpErrno((DWORD)WSAGetLastError());
    }
    IocpSocketClose(fd);
    return error;
}

/*
 * Begin --
 *	See to it that there are the port and its dispatcher.
 * Results:
 *	0 or -errno, and *whatPtr is what could not be had.
 */
static int
Begin(const char **whatPtr)
{
    int error = IocpWinsock();

    *whatPtr = "WSAStartup";
    AcquireSRWLockExclusive(&mutex);
    if (error == 0 && connectEx == NULL) {
	*whatPtr = "ConnectEx";
	error = GetConnectEx();
    }
    if (error == 0 && port == NULL) {
	*whatPtr = "CreateIoCompletionPort";
	port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 0);
	error = port == NULL ? IocpErrno(GetLastError()) : IocpSpawn(Dispatcher, NULL);
	if (error != 0 && port != NULL) {
	    CloseHandle(port);
	    port = NULL;
	}
    }
    ReleaseSRWLockExclusive(&mutex);
    return -error;
}

static int
WinProbe(char *reason, size_t size)
{
    const char *what;
    int result = Begin(&what);

    if (result < 0) {
	snprintf(reason, size, "%s: %s", what, strerror(-result));
    } else {
	reason[0] = '\0';
    }
    return result;
}

static int
WinOpen(IocpEngine **enginePtrPtr)
{
    const char *what;
    int result = Begin(&what);
    WinEngine *winPtr = result < 0 ? NULL : calloc(1, sizeof(WinEngine));

    if (winPtr == NULL) {
	return result < 0 ? result : -ENOMEM;
    }
    winPtr->base.typePtr = &iocpWinEngine;
    InitializeConditionVariable(&winPtr->wanted);
    *enginePtrPtr = &winPtr->base;
    return 0;
}

static void
WinClose(IocpEngine *enginePtr)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;
    WinRequest *requestPtr;

    while ((requestPtr = winPtr->freePtr) != NULL) {
	winPtr->freePtr = requestPtr->nextPtr;
	free(requestPtr);
    }
    IocpPoolFree(&winPtr->pool);
    free(winPtr);
}

/*
 * WinAttach --
 *	Give a socket to the port, unless it has been there before.
 */
static void
WinAttach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    HANDLE handle = (HANDLE)(intptr_t)handlePtr->fd;
    u_long on = 1;

    (void)enginePtr;
    handlePtr->flags = 0;
    ioctlsocket((SOCKET)handlePtr->fd, (long)FIONBIO, &on);
    CreateIoCompletionPort(handle, port, 0, 0);
    SetFileCompletionNotificationModes(handle,
	    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE);
}

static void
WinDetach(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    (void)enginePtr;
    (void)handlePtr;
}

static void
WinInit(WinEngine *winPtr, WinRequest *requestPtr, IocpOp *opPtr)
{
    memset(requestPtr, 0, sizeof(WinRequest));
    requestPtr->enginePtr = winPtr;
    requestPtr->opPtr = opPtr;
}

static void
WinFree(WinRequest *requestPtr)
{
    requestPtr->nextPtr = requestPtr->enginePtr->freePtr;
    requestPtr->enginePtr->freePtr = requestPtr;
}

/*
 * WinKnown --
 *	The result of a request is known without the kernel: a count, or -errno.
 */
static void
WinKnown(WinRequest *requestPtr, int result)
{
    requestPtr->known = 1;
    requestPtr->result = result;
    WinPut(&requestPtr->enginePtr->ready, requestPtr);
}

/*
 * WinCalled --
 *	An overlapped call has said how it goes: succeeded, it is complete, and nothing comes from
 *	the port.
 */
static void
WinCalled(WinRequest *requestPtr, int succeeded)
{
    DWORD error = succeeded ? NO_ERROR : (DWORD)WSAGetLastError();

    IOCP_ADD(requestPtr->enginePtr->base.counts.enters, 1);
    if (error == NO_ERROR) {
	WinPut(&requestPtr->enginePtr->ready, requestPtr);
    } else if (error != WSA_IO_PENDING) {
	WinKnown(requestPtr, -IocpErrno(error));
    }
}

/*
 * WinResult --
 *	The result of a request that is complete.
 */
static int
WinResult(const WinRequest *requestPtr)
{
    WSAOVERLAPPED *overlappedPtr = (WSAOVERLAPPED *)&requestPtr->overlapped;
    DWORD size, flags;

    if (requestPtr->known) {
	return requestPtr->result;
    }
    return WSAGetOverlappedResult((SOCKET)requestPtr->opPtr->handlePtr->fd, overlappedPtr, &size,
	    FALSE, &flags) ? (int)size : -IocpErrno((DWORD)WSAGetLastError());
}

/*
 * WinGetBuf --
 *	A buffer of the pool, which stays there. NULL: the pool has reached its limit.
 */
static IocpBuf *
WinGetBuf(WinEngine *winPtr)
{
    if (winPtr->freeBufPtr == NULL) {
	IocpBuf *bufs = IocpPoolGrow(&winPtr->pool);

	for (int i = 0; bufs != NULL && i < IOCP_POOL_CHUNK; i++) {
	    bufs[i].nextPtr = winPtr->freeBufPtr;
	    winPtr->freeBufPtr = &bufs[i];
	}
	if (bufs != NULL) {
	    IOCP_ADD(winPtr->base.counts.poolBytes,
		    (uint64_t)IOCP_POOL_CHUNK * IOCP_POOL_BUFSIZE);
	}
    }
    return winPtr->freeBufPtr;
}

/*
 * WinRecvNow --
 *	Receive what there is into a buffer of the pool.
 * Results:
 *	A count, and the buffer is the request's; or -errno: -EAGAIN if there is nothing.
 */
static int
WinRecvNow(WinRequest *requestPtr)
{
    WinEngine *winPtr = requestPtr->enginePtr;
    IocpBuf *bufPtr = WinGetBuf(winPtr);
    int result;

    if (bufPtr == NULL) {
	return -ENOBUFS;
    }
    IOCP_ADD(winPtr->base.counts.enters, 1);
    result = recv((SOCKET)requestPtr->opPtr->handlePtr->fd, bufPtr->data, (int)bufPtr->size, 0);
    if (result < 0) {
	return -IocpErrno((DWORD)WSAGetLastError());
    }
    if (result > 0) {
	winPtr->freeBufPtr = bufPtr->nextPtr;
	bufPtr->nextPtr = NULL;
	requestPtr->bufPtr = bufPtr;
    }
    return result;
}

/*
 * WinRecvFor --
 *	Wait until there is something to receive.
 */
static void
WinRecvFor(WinRequest *requestPtr)
{
    WSABUF nothing = {0, NULL};
    DWORD flags = 0;

    memset(&requestPtr->overlapped, 0, sizeof(OVERLAPPED));
    WinCalled(requestPtr, WSARecv((SOCKET)requestPtr->opPtr->handlePtr->fd, &nothing, 1, NULL,
	    &flags, (WSAOVERLAPPED *)&requestPtr->overlapped, NULL) == 0);
}

static void
WinRecv(WinRequest *requestPtr)
{
    IocpOp *opPtr = requestPtr->opPtr;
    IocpVec vecs[IOCP_VECS_MAX];
    DWORD count, flags = 0;

    if (opPtr->bufPtr != NULL) {
	count = (DWORD)IocpFillVecs(vecs, IOCP_VECS_MAX, opPtr);
	WinCalled(requestPtr, WSARecv((SOCKET)opPtr->handlePtr->fd, vecs, count, NULL, &flags,
		(WSAOVERLAPPED *)&requestPtr->overlapped, NULL) == 0);
	return;
    }
    if (!(opPtr->flags & IOCP_OPF_EXPECT_WAIT)) {
	int result = WinRecvNow(requestPtr);

	if (result != -EAGAIN) {
	    WinKnown(requestPtr, result);
	    return;
	}
    }
    WinRecvFor(requestPtr);
}

static void
WinSend(WinRequest *requestPtr)
{
    IocpVec vecs[IOCP_VECS_MAX];
    DWORD count = (DWORD)IocpFillVecs(vecs, IOCP_VECS_MAX, requestPtr->opPtr);

    WinCalled(requestPtr, WSASend((SOCKET)requestPtr->opPtr->handlePtr->fd, vecs, count, NULL, 0,
	    (WSAOVERLAPPED *)&requestPtr->overlapped, NULL) == 0);
}

/*
 * WinConnect --
 *	ConnectEx takes a socket that is bound, to wherever.
 */
static void
WinConnect(WinRequest *requestPtr)
{
    const IocpConnectOp *opPtr = (const IocpConnectOp *)requestPtr->opPtr;
    IocpSocket fd = opPtr->op.handlePtr->fd;
    IocpSockaddr addr;
    socklen_t length = sizeof(addr);

    if (IocpSocketName(fd, &addr.sa, &length) < 0) {
	memset(&addr, 0, sizeof(addr));
	addr.sa.sa_family = opPtr->addrPtr->sa_family;
	if (IocpSocketBind(fd, &addr.sa, opPtr->addrLen) < 0) {
	    WinKnown(requestPtr, -errno);
	    return;
	}
    }
    WinCalled(requestPtr, connectEx((SOCKET)fd, opPtr->addrPtr, opPtr->addrLen, NULL, 0, NULL,
	    &requestPtr->overlapped));
}

/*
 * WinSendFile --
 *	The part of it that there is: TransmitFile fails beyond the end of a file.
 */
static void
WinSendFile(WinRequest *requestPtr)
{
    IocpFileOp *fileOpPtr = (IocpFileOp *)requestPtr->opPtr;
    int64_t left = IocpFileSize(fileOpPtr->file) - fileOpPtr->offset;
    size_t count = fileOpPtr->count < WIN_FILE_MAX ? fileOpPtr->count : WIN_FILE_MAX;

    if (left <= 0) {
	WinKnown(requestPtr, 0);
	return;
    }
    requestPtr->overlapped.Offset = (DWORD)fileOpPtr->offset;
    requestPtr->overlapped.OffsetHigh = (DWORD)(fileOpPtr->offset >> 32);
    WinCalled(requestPtr, TransmitFile((SOCKET)fileOpPtr->op.handlePtr->fd,
	    (HANDLE)(intptr_t)fileOpPtr->file,
	    left < (int64_t)count ? (DWORD)left : (DWORD)count, 0, &requestPtr->overlapped, NULL,
	    0));
}

/*
 * Write --
 *	Write the buffers of an op to a file.
 * Results:
 *	A count or -errno.
 */
static int
Write(const IocpFileOp *fileOpPtr)
{
    IocpVec vecs[IOCP_VECS_MAX];
    int count = IocpFillVecs(vecs, IOCP_VECS_MAX, &fileOpPtr->op), written = 0;

    for (int i = 0; i < count; i++) {
	DWORD part = 0;
	int failed;

	if (atomic_load_explicit(&fileOpPtr->cancelled, memory_order_relaxed)) {
	    return written > 0 ? written : -ECANCELED;
	}
	failed = !WriteFile((HANDLE)(intptr_t)fileOpPtr->file, vecs[i].buf, vecs[i].len, &part,
		NULL);
	written += (int)part;
	if (failed && written == 0) {
	    return -IocpErrno(GetLastError());
	}
	if (part < vecs[i].len) {
	    break;
	}
    }
    return written;
}

/*
 * WriteJob --
 *	Tcl opens files for calls that wait, so that a thread of the system's pool has to do it.
 */
static void CALLBACK
WriteJob(PTP_CALLBACK_INSTANCE instance, void *clientData)
{
    WinRequest *requestPtr = clientData;

    (void)instance;
    requestPtr->result = Write((IocpFileOp *)requestPtr->opPtr);
    PostQueuedCompletionStatus(port, 0, 0, &requestPtr->overlapped);
}

static void
WinWriteFile(WinRequest *requestPtr)
{
    requestPtr->known = 1;
    if (!TrySubmitThreadpoolCallback(WriteJob, requestPtr, NULL)) {
	WinKnown(requestPtr, Write((IocpFileOp *)requestPtr->opPtr));
    }
}

/*
 * WinAcceptOne --
 *	Wait for one connection more.
 * Results:
 *	0 or -errno.
 */
static int
WinAcceptOne(WinEngine *winPtr, IocpOp *opPtr, int family)
{
    WinAccept *acceptPtr = malloc(sizeof(WinAccept));
    DWORD size;

    if (acceptPtr == NULL) {
	return -ENOMEM;
    }
    WinInit(winPtr, &acceptPtr->request, opPtr);
    acceptPtr->socket = (SOCKET)IocpSocketOpen(family, 0);
    if (acceptPtr->socket == INVALID_SOCKET) {
	free(acceptPtr);
	return -errno;
    }
    acceptPtr->siblingPtr = opPtr->requestPtr;
    opPtr->requestPtr = acceptPtr;
    WinCalled(&acceptPtr->request, AcceptEx((SOCKET)opPtr->handlePtr->fd, acceptPtr->socket,
	    acceptPtr->addresses, 0, WIN_ADDRESS, WIN_ADDRESS, &size,
	    &acceptPtr->request.overlapped));
    return 0;
}

/*
 * WinAcceptAll --
 *	Wait for as many connections as are wanted, or as there can be sockets for.
 */
static IocpSubmit
WinAcceptAll(WinEngine *winPtr, IocpOp *opPtr)
{
    int family = IocpSocketFamily(opPtr->handlePtr->fd), result = 0;
    WinRequest *requestPtr;

    opPtr->requestPtr = NULL;
    for (int i = 0; i < opPtr->bufCount && result == 0; i++) {
	result = WinAcceptOne(winPtr, opPtr, family);
    }
    if (opPtr->requestPtr == NULL) {
	requestPtr = malloc(sizeof(WinAccept));
	if (requestPtr == NULL) {
	    return IOCP_BUSY;
	}
	WinInit(winPtr, requestPtr, opPtr);
	((WinAccept *)requestPtr)->socket = INVALID_SOCKET;
	((WinAccept *)requestPtr)->siblingPtr = NULL;
	opPtr->requestPtr = requestPtr;
	WinKnown(requestPtr, result);
    }
    return IOCP_QUEUED;
}

static IocpSubmit
WinSubmit(IocpEngine *enginePtr, IocpOp *opPtr)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;
    WinRequest *requestPtr = winPtr->freePtr;

    opPtr->engineFlags = 0;
    if (opPtr->kind == IOCP_OP_ACCEPT) {
	return WinAcceptAll(winPtr, opPtr);
    }
    if (IocpOpIsFile(opPtr)) {
	atomic_store_explicit(&((IocpFileOp *)opPtr)->cancelled, 0, memory_order_relaxed);
    }
    if (requestPtr != NULL) {
	winPtr->freePtr = requestPtr->nextPtr;
    } else {
	requestPtr = malloc(sizeof(WinRequest));
	if (requestPtr == NULL) {
	    return IOCP_BUSY;
	}
    }
    WinInit(winPtr, requestPtr, opPtr);
    opPtr->requestPtr = requestPtr;
    switch (opPtr->kind) {
    case IOCP_OP_CONNECT:
	WinConnect(requestPtr);
	break;
    case IOCP_OP_RECV:
	WinRecv(requestPtr);
	break;
    case IOCP_OP_SEND:
	WinSend(requestPtr);
	break;
    case IOCP_OP_SEND_FILE:
	WinSendFile(requestPtr);
	break;
    case IOCP_OP_WRITE_FILE:
	WinWriteFile(requestPtr);
	break;
    case IOCP_OP_ACCEPT:
	break;
    }
    return IOCP_QUEUED;
}

/*
 * WinCancel --
 *	What the kernel does not have any more has its result, and keeps it.
 */
static void
WinCancel(IocpEngine *enginePtr, IocpOp *opPtr)
{
    HANDLE handle = (HANDLE)(intptr_t)opPtr->handlePtr->fd;

    (void)enginePtr;
    opPtr->engineFlags |= WIN_OPF_CANCEL;
    if (opPtr->kind == IOCP_OP_ACCEPT) {
	for (WinAccept *acceptPtr = opPtr->requestPtr; acceptPtr != NULL;
		acceptPtr = acceptPtr->siblingPtr) {
	    CancelIoEx(handle, &acceptPtr->request.overlapped);
	}
	return;
    }
    if (IocpOpIsFile(opPtr)) {
	atomic_store_explicit(&((IocpFileOp *)opPtr)->cancelled, 1, memory_order_relaxed);
    }
    if (opPtr->kind != IOCP_OP_WRITE_FILE) {
	CancelIoEx(handle, &((WinRequest *)opPtr->requestPtr)->overlapped);
    }
}

/*
 * WinRemove --
 *	Take a request out of a queue.
 * Results:
 *	Whether it was there.
 */
static int
WinRemove(WinQueue *queuePtr, const WinRequest *wantedPtr)
{
    WinRequest *requestPtr = queuePtr->firstPtr, *nextPtr;
    int found = 0;

    *queuePtr = (WinQueue){NULL, NULL};
    for (; requestPtr != NULL; requestPtr = nextPtr) {
	nextPtr = requestPtr->nextPtr;
	if (requestPtr == wantedPtr) {
	    found = 1;
	} else {
	    WinPut(queuePtr, requestPtr);
	}
    }
    return found;
}

static void
WinLeave(IocpEngine *enginePtr, IocpOp *opPtr)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;
    WinRequest *requestPtr = opPtr->requestPtr;

    AcquireSRWLockExclusive(&mutex);
    requestPtr->complete = WinRemove(&winPtr->ready, requestPtr)
	    || WinRemove(&winPtr->done, requestPtr);
    requestPtr->enginePtr = NULL;
    ReleaseSRWLockExclusive(&mutex);
}

static void
WinJoin(IocpEngine *enginePtr, IocpOp *opPtr)
{
    WinRequest *requestPtr = opPtr->requestPtr;

    AcquireSRWLockExclusive(&mutex);
    requestPtr->enginePtr = (WinEngine *)enginePtr;
    if (requestPtr->complete) {
	WinDone(requestPtr);
    }
    ReleaseSRWLockExclusive(&mutex);
}

/*
 * WinFinishAccept --
 *	A request of an accept is complete. One that fails while others are under way, fails for the
 *	sake of its connection.
 * Results:
 *	Whether *compPtr tells of it.
 */
static int
WinFinishAccept(WinAccept *acceptPtr, IocpCompletion *compPtr)
{
    IocpOp *opPtr = acceptPtr->request.opPtr;
    SOCKET listener = (SOCKET)opPtr->handlePtr->fd;
    int result = WinResult(&acceptPtr->request), more;
    WinAccept **linkPtr = (WinAccept **)&opPtr->requestPtr;

    if (result >= 0) {
	setsockopt(acceptPtr->socket, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (char *)&listener,
		sizeof(listener));
	result = (int)acceptPtr->socket;
    } else if (acceptPtr->socket != INVALID_SOCKET) {
	closesocket(acceptPtr->socket);
	result = result == -ECONNRESET ? -ECONNABORTED : result;
    }
    while (*linkPtr != acceptPtr) {
	linkPtr = &(*linkPtr)->siblingPtr;
    }
    *linkPtr = acceptPtr->siblingPtr;
    more = opPtr->requestPtr != NULL;
    free(acceptPtr);
    if (result == -ECANCELED && more) {
	return 0;
    }
    *compPtr = (IocpCompletion){
	.opPtr = opPtr, .result = result, .flags = more ? IOCP_COMPF_MORE : 0
    };
    return 1;
}

/*
 * WinFinish --
 *	A request is complete.
 * Results:
 *	Whether *compPtr tells of it.
 */
static int
WinFinish(WinRequest *requestPtr, IocpCompletion *compPtr)
{
    IocpOp *opPtr = requestPtr->opPtr;
    int result;

    if (opPtr->kind == IOCP_OP_ACCEPT) {
	return WinFinishAccept((WinAccept *)requestPtr, compPtr);
    }
    result = WinResult(requestPtr);
    *compPtr = (IocpCompletion){.opPtr = opPtr};
    if (opPtr->kind == IOCP_OP_CONNECT && result >= 0) {
	setsockopt((SOCKET)opPtr->handlePtr->fd, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0);
	result = 0;
    } else if (opPtr->kind == IOCP_OP_RECV && result >= 0) {
	size_t room = 0;

	if (opPtr->bufPtr == NULL && !requestPtr->known) {
	    result = (opPtr->engineFlags & WIN_OPF_CANCEL) ? -ECANCELED : WinRecvNow(requestPtr);
	    if (result == -EAGAIN) {
		WinRecvFor(requestPtr);
		return 0;
	    }
	}
	if (opPtr->bufPtr == NULL) {
	    room = IOCP_POOL_BUFSIZE;
	}
	for (IocpBuf *bufPtr = opPtr->bufPtr; bufPtr != NULL; bufPtr = bufPtr->nextPtr) {
	    room += bufPtr->size - bufPtr->start;
	}
	compPtr->flags = result > 0 && (size_t)result == room ? IOCP_COMPF_MORE_DATA : 0;
    }
    compPtr->result = result;
    compPtr->bufPtr = requestPtr->bufPtr;
    WinFree(requestPtr);
    return 1;
}

/*
 * WinTakeDone --
 *	What the dispatcher has is to be reaped.
 */
static void
WinTakeDone(WinEngine *winPtr)
{
    WinQueue done;

    AcquireSRWLockExclusive(&mutex);
    done = winPtr->done;
    winPtr->done = (WinQueue){NULL, NULL};
    ReleaseSRWLockExclusive(&mutex);
    if (done.firstPtr != NULL) {
	*(winPtr->ready.firstPtr != NULL ? &winPtr->ready.lastPtr->nextPtr
		: &winPtr->ready.firstPtr) = done.firstPtr;
	winPtr->ready.lastPtr = done.lastPtr;
    }
}

/*
 * WinReap --
 *	A receive that finds nothing after all may be complete at once when it is tried again: so
 *	only what was there at the beginning is looked at.
 */
static int
WinReap(IocpEngine *enginePtr, IocpCompletion *completions, int max)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;
    WinRequest *lastPtr;
    int count = 0, end = 0;

    WinTakeDone(winPtr);
    lastPtr = winPtr->ready.lastPtr;
    while (count < max && !end && winPtr->ready.firstPtr != NULL) {
	WinRequest *requestPtr = winPtr->ready.firstPtr;

	winPtr->ready.firstPtr = requestPtr->nextPtr;
	end = requestPtr == lastPtr;
	count += WinFinish(requestPtr, &completions[count]);
    }
    return count;
}

static int
WinWait(IocpEngine *enginePtr, int64_t timeoutNs)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;

    if (winPtr->ready.firstPtr != NULL) {
	return 0;
    }
    IOCP_ADD(winPtr->base.counts.waits, 1);
    AcquireSRWLockExclusive(&mutex);
    if (winPtr->done.firstPtr == NULL) {
	SleepConditionVariableSRW(&winPtr->wanted, &mutex, IocpMilliseconds(timeoutNs), 0);
    }
    ReleaseSRWLockExclusive(&mutex);
    return 0;
}

/*
 * WinAttend --
 *	There are no other descriptors: there is no host mode.
 */
static void
WinAttend(IocpEngine *enginePtr, int fd)
{
    (void)fd;
    enginePtr->attending = 0;
}

static int
WinArm(IocpEngine *enginePtr, int armed)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;
    int ready;

    AcquireSRWLockExclusive(&mutex);
    ready = armed && (winPtr->ready.firstPtr != NULL || winPtr->done.firstPtr != NULL);
    winPtr->armed = armed && !ready;
    ReleaseSRWLockExclusive(&mutex);
    return ready;
}

static void
WinAlert(IocpEngine *enginePtr, IocpAlertProc *proc, void *clientData)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;

    AcquireSRWLockExclusive(&mutex);
    winPtr->alertProc = proc;
    winPtr->alertData = clientData;
    ReleaseSRWLockExclusive(&mutex);
}

static int
WinNotifyFd(IocpEngine *enginePtr)
{
    (void)enginePtr;
    return -1;
}

static void
WinNothing(IocpEngine *enginePtr)
{
    (void)enginePtr;
}

static void
WinRelease(IocpEngine *enginePtr, IocpBuf *bufPtr)
{
    WinEngine *winPtr = (WinEngine *)enginePtr;

    bufPtr->nextPtr = winPtr->freeBufPtr;
    winPtr->freeBufPtr = bufPtr;
}

const IocpEngineType iocpWinEngine = {
    .typeName = "iocp",
    .version = IOCP_ENGINE_VERSION,
    .probeProc = WinProbe,
    .openProc = WinOpen,
    .closeProc = WinClose,
    .attachProc = WinAttach,
    .detachProc = WinDetach,
    .submitProc = WinSubmit,
    .cancelProc = WinCancel,
    .leaveProc = WinLeave,
    .joinProc = WinJoin,
    .sendNowProc = IocpSendNow,
    .pushProc = IocpPush,
    .reapProc = WinReap,
    .waitProc = WinWait,
    .attendProc = WinAttend,
    .armProc = WinArm,
    .notifyFdProc = WinNotifyFd,
    .alertProc = WinAlert,
    .notifiedProc = WinNothing,
    .releaseProc = WinRelease,
    .forkedProc = WinNothing
};
