/*
 * iocpInt.h --
 *	The driver's own structures: who owns them, who may touch them, how they change.
 *
 * Threads: a channel, its ops and its thread's IocpThread are used by one thread only, the one
 * whose Tcl notifier serves the channel. Nothing here is locked. What crosses threads is the
 * counters (relaxed atomics), the list of threads (a mutex, iocpStats.c), and the names that are
 * looked up (a mutex, iocpResolve.c), and the send queues of channels that are put off (a mutex of
 * each thread, iocpDefer.c).
 */

#ifndef IOCP_INT_H
#define IOCP_INT_H

#include "iocpPort.h"
#include <tcl.h>
#include "iocpsock.h"
#include "engine/engine.h"

/* Tcl 9 counts in Tcl_Size, Tcl 8.6 in int. */
#ifndef TCL_SIZE_MAX
typedef int Tcl_Size;
#endif

#define IOCP_VERSION "3.1"

#define IOCP_TURN (2 * IOCP_MS)	/* How long a turn of the event loop lasts at most. */
#define IOCP_EXIT_WAIT (20 * IOCP_MS)	/* How often -linger is looked at while a thread ends. */

/* Defaults of the channel options; iocpOption.c documents them. */
#define IOCP_SENDCAP 20
#define IOCP_BACKLOG 20
#define IOCP_LINGER_SECONDS 60

#define IOCP_PROXY_MAX 4096	/* Bytes of a proxy's header at most. */
#define IOCP_PROXY_WAIT (5 * (uint64_t)IOCP_SECOND)	/* For so long it is waited for, */
#define IOCP_PROXY_AWAITED_MAX 256	/* on so many connections of a listener. */

#define IOCP_INHERITED_MAX 64	/* Listening sockets that a process inherits at most. */

#define IOCP_COPY_MIN 65536	/* Fewer bytes of a file are not worth an op (iocpCopy.c). */

/*
 * An assertion that stays on in release builds: a driver that goes on with broken state loses data.
 */
#define IOCP_ASSERT(condition) \
    ((condition) ? (void)0 : Tcl_Panic("iocp: %s:%d: %s", __FILE__, __LINE__, #condition))

/*
 * The counters; see iocp::stats in native/REFERENCE.md for their meaning. The order is the order in
 * which they are listed.
 */
#define IOCP_STATS(X) \
    X(socketsOpen) X(channelsOpened) X(accepts) X(acceptErrors) X(acceptsDead) X(acceptPauses) \
    X(connects) X(connectErrors) X(resets) X(idleTimeouts) X(requestTimeouts) \
    X(proxyErrors) X(bytesReceived) X(bytesSent) X(bytesCopied) \
    X(opsSubmitted) X(opsCompleted) X(opsOrphaned) X(enters) X(waits) X(buffers) X(poolBytes) \
    X(bytesQueued) X(heapBytes) X(lingerExpired) X(sendRetries) X(eventsQueued)

typedef enum IocpStat {
#define IOCP_STAT_ENUM(name) IOCP_STAT_##name,
    IOCP_STATS(IOCP_STAT_ENUM)
#undef IOCP_STAT_ENUM
    IOCP_STAT_COUNT
} IocpStat;

typedef struct IocpChan IocpChan;
typedef struct IocpThread IocpThread;
typedef struct IocpListener IocpListener;
typedef struct IocpCopy IocpCopy;
typedef struct IocpGuard IocpGuard;
typedef struct IocpAcceptScript IocpAcceptScript;
typedef struct IocpProxy IocpProxy;
typedef struct IocpTimed IocpTimed;	/* iocpTimeout.c */

/* A queue of channels, linked through the member that each has for the queue (iocpEvent.c). */
typedef struct IocpQueue {
    IocpChan *firstPtr;
    IocpChan *lastPtr;
} IocpQueue;

/*
 * A channel whose script runs, called by one of its events; on the stack of ChanEventProc. It
 * holds the event's reference. When the script does not come back (ThreadExit), or the channel
 * goes to another thread meanwhile (Leave), that one drops the reference and chanPtr becomes NULL.
 */
typedef struct IocpTold {
    IocpChan *chanPtr;
    struct IocpTold *outerPtr;	/* The script around it, which runs a nested event loop. */
} IocpTold;

/* An interpreter that has loaded the package; belongs to it (InterpDeleted, iocpThread.c). */
typedef struct IocpInterp {
    Tcl_Interp *interp;
    IocpThread *threadPtr;	/* To be compared only: it may be gone before. */
    struct IocpInterp *nextPtr;
} IocpInterp;

/*
 * What the driver knows of one Tcl thread.
 *
 * Lifetime: made by the first interpreter of the thread that loads the package, or by the first
 * channel that is transferred to it. It goes (IocpThreadRelease) with its last interpreter and its
 * last channel, since a thread that does not belong to Tcl, such as one of Python's, runs no exit
 * handlers; or else after the thread's exit, when Tcl has closed the last of its channels.
 */
struct IocpThread {
    IocpEngine *enginePtr;	/* iocpNoEngine while none can be opened, and in a forked child. */
    IocpChan *chansPtr;		/* All of the thread's, those that Tcl has closed included. */
    IocpQueue dirty;		/* Channels that have ops to submit when the turn ends. */
    IocpQueue ready;		/* Channels to be told to Tcl when the notifier was asked again: */
    IocpQueue readyListeners;	/* ... listeners are told first. */
    IocpQueue streams;		/* Channels that have a stream, for the next pass of the loop. */
    IocpTold *toldPtr;		/* Not NULL while a script runs that one of our events called. */
    int kept;			/* > 0: not to be released now. */
    uint64_t idleDue;		/* When a busy loop is to look whether idle callbacks run; */
    int idleAwaited;		/* one of ours waits among them. */
    int sweepQueued;		/* A sweep event is in Tcl's queue. */
    int serving;		/* The event source is at work, and tells Tcl how long to wait. */
    IocpInterp *interpsPtr;	/* Interpreters of the thread that have loaded the package. */
    int orphaned;		/* The last one is gone, and the event loop has not run since. */
    int forked;			/* A forked child's copy: it will never have an engine. */
    int exiting;		/* The thread's exit handlers have run: nothing is deferred. */
    uint64_t exitStart;		/* Since then, for -linger. */
    uint64_t turnEnd;		/* Until then (IocpNow) events may go straight to Tcl's queue. */
    uint64_t passCount;		/* Passes of the event loop. */
    uint64_t toldCount;		/* Scripts that our events have called. */
    uint64_t toldSince;		/* When the last of them was called. */
    int eventsWaiting;		/* Events of channels in Tcl's queue. */
    int dirtyCount;		/* About as many channels are dirty. */
    IocpMutex deferMutex;	/* Guards the list of channels whose sends are put off, and their */
    IocpChan *deferFirstPtr;	/* queues (iocpDefer.c); only the thread itself changes the list. */
    uint64_t deferSince;	/* When the first of them was put off. */
    IocpTimed **timed;		/* Connections that have a time-out: a heap (iocpTimeout.c). */
    int timedCount, timedMax;
    int closingCount;		/* Channels that Tcl has closed and that still have to send. */
    int busyPollers;		/* Connections that have a busyPollUs. */
    int64_t busyPollNs;		/* The longest of theirs since there was none. */
    uint64_t lingerDue;		/* When they are looked at; 0: not at all. Not a timer of Tcl's:
				 * Tcl 8.6 may delete the wrong one when a channel moves. */
    uint64_t retryDue;		/* When what waits is tried again: sends after -ENOBUFS,
				 * accepts after -EMFILE; 0: nothing does. */
    _Atomic uint64_t stats[IOCP_STAT_COUNT];
    IocpThread *nextThreadPtr;	/* List of all threads, under its mutex. */
};

/*
 * IocpChan.state of a connection, and the procedure that makes each move:
 *
 *	CONNECTING -> OPEN	IocpConnectDone
 *	CONNECTING -> FAILED	IocpConnectDone, when no address is left; Resolved in
 *				iocpConnect.c, when there is none
 *	any -> CLOSING		IocpChanClose; Tcl knows the channel no longer
 *	CLOSING -> CLOSED	IocpChanTryFinish: no op in flight and nothing left to send
 *
 * A listener is LISTENING until it is CLOSING.
 */
typedef enum IocpState {
    IOCP_CONNECTING,
    IOCP_OPEN,
    IOCP_FAILED,
    IOCP_LISTENING,
    IOCP_CLOSING,
    IOCP_CLOSED
} IocpState;

/* IocpChan.flags */
#define IOCP_CHANF_NONBLOCKING 1	/* -blocking 0 */
#define IOCP_CHANF_EOF 2		/* Nothing more will be received. */
#define IOCP_CHANF_RESET 4		/* The peer has reset the connection. */
#define IOCP_CHANF_RECV_WANTED 8	/* A read found nothing: receive without being watched. */
#define IOCP_CHANF_RECV_FULL 16		/* The last receive filled its buffers: expect more. */
#define IOCP_CHANF_NO_POOL 32		/* The pool was empty: use a buffer of its own once. */
#define IOCP_CHANF_SHUT_PENDING 64	/* Shut the write side down when all is sent. */
#define IOCP_CHANF_SHUT_WRITE 128	/* The write side is shut down, or will be. */
#define IOCP_CHANF_TCL_CLOSING 256	/* Tcl has begun to close: no transfer to another thread. */
#define IOCP_CHANF_DETACHED 512		/* Between two threads. */
#define IOCP_CHANF_ABORT 1024		/* Give up what is unsent. */
#define IOCP_CHANF_DRAINED 2048		/* The host has waited for it; nobody else does. */
#define IOCP_CHANF_MOVED 4096		/* From another thread; see IocpChanTellBuffered. */
#define IOCP_CHANF_TCL_HOLDS 8192	/* To be told: Tcl has input in its buffers. */
#define IOCP_CHANF_ACCEPTED 16384	/* By a listener: the peer is the client. */
#define IOCP_CHANF_HANDED 32768		/* Somebody else has its descriptor, and may write to it. */
#define IOCP_CHANF_CONNECTED 65536	/* To be told: it has connected, or failed to. */

typedef enum IocpRecvMode {
    IOCP_RECV_ZERO_BYTE,	/* Interest only; the buffer comes from the pool with the data. */
    IOCP_RECV_FLOW_CONTROLLED,	/* One receive of -buffersize, posted again as the script reads. */
    IOCP_RECV_BURST		/* As many buffers as the load fills, up to recvCap. */
} IocpRecvMode;

/*
 * What the kernel keeps for a socket and a channel remembers (iocpSocket.c). They are set in this
 * order: from a traffic class, the kernel derives a priority.
 */
typedef enum IocpSockopt {
    IOCP_SO_REUSEADDR,
    IOCP_SO_REUSEPORT,
    IOCP_SO_KEEPALIVE,
    IOCP_SO_NODELAY,
    IOCP_SO_SNDBUF,
    IOCP_SO_RCVBUF,
    IOCP_SO_TCLASS,
    IOCP_SO_PRIORITY,
    IOCP_SO_PACING,
    IOCP_SO_COUNT
} IocpSockopt;

typedef enum IocpProtocol { IOCP_TCP, IOCP_TCP4, IOCP_TCP6, IOCP_MPTCP } IocpProtocol;

/*
 * How a channel is to be; a listener hands it on to the connections that it accepts. Without
 * padding: it is compared as a whole.
 */
typedef struct IocpSettings {
    IocpProtocol protocol;
    IocpRecvMode recvMode;
    int recvCap;		/* Burst-detection: buffers posted at most. */
    int recvBufCap;		/* Burst-detection: unread buffers at most. */
    int sendCap;		/* Buffers accepted for sending at most. */
    int lingerSeconds;		/* How long a closed channel may go on sending. */
    int idleTimeoutMs;		/* How long the peer may be silent; 0: for ever. */
    int proxyProtocol;		/* Of a listener: a proxy's header comes first. */
    int requestTimeoutMs;	/* How long it may take to send what is answered; 0: for ever. */
    int busyPollUs;		/* How long its thread looks for completions before it sleeps. */
    int64_t sockopts[IOCP_SO_COUNT];	/* -1: whatever the kernel's default is. */
} IocpSettings;

/*
 * A name to look up, and the answer (iocpAddr.c). Nothing of it is Tcl's: a resolver thread may
 * have it.
 */
typedef struct IocpQuery {
    char *host;			/* NULL: this machine. */
    char service[16];		/* A port number. */
    int family;			/* AF_UNSPEC: either. */
    int flags;			/* AI_PASSIVE to bind. */
    int wantName;		/* Of an address, the name is wanted. */
    int answered;
    int result;			/* 0 or EAI_*. */
    int error;			/* errno of EAI_SYSTEM. */
    struct addrinfo *listPtr;
    char *name;			/* With wantName, of an address. */
} IocpQuery;

typedef struct IocpResolve IocpResolve;	/* iocpResolve.c */
typedef void IocpResolvedProc(void *clientData);

#define IOCP_QUERIES_MAX 2

/*
 * An open client's way through its addresses; freed when the connection is made or has failed. The
 * addresses are those of queries, which are answered first (resolvePtr).
 */
typedef struct IocpConnect {
    IocpResolve *resolvePtr;	/* The names are being looked up; NULL: that is done. */
    IocpQuery queries[IOCP_QUERIES_MAX];	/* Remote, local. */
    struct addrinfo *remotePtr, *remoteNextPtr;
    struct addrinfo *localPtr, *localNextPtr;	/* NULL: the kernel chooses. */
    int error;			/* errno of the last attempt. */
    IocpConnectOp connectOp;
} IocpConnect;

/*
 * What is noted of what a connection sends (iocpSend.c): made for its first write, by IocpSendOpen,
 * and freed with the channel. Until then the channel has iocpNoSend, which all share and nobody
 * changes: of connections that only wait there may be many thousands.
 */
typedef struct IocpSend {
    IocpOp op;
    IocpBuf *firstPtr, *lastPtr;	/* Accepted and not sent, oldest first. */
    int count;			/* Buffers in that chain; op.bufCount of them in flight. */
    int deferred;		/* It is put off: on its thread's list (iocpDefer.c). */
    uint64_t told;		/* IocpThread.toldCount when something was last sent at once. */
    /* While it is put off: */
    IocpChan *deferNextPtr;
    size_t pushed;		/* Bytes of the chain that the kernel has nevertheless. */
    int pushError;		/* errno with which that ended, or 0. */
    /* A stream (iocpStream.c): */
    int streamed;		/* Full buffers that were sent in one pass after the other. */
    uint64_t streamPass;	/* IocpThread.passCount when the last one was. */
    IocpChan *streamNextPtr;	/* As those of IocpChan. */
    /* Copying (iocpCopy.c, iocpMove.c): */
    IocpCopy *copyPtr;		/* The one that writes to the channel, or NULL. */
    IocpCopy *filePtr;		/* That or an earlier one, whose op is in flight: no send is. */
} IocpSend;

/*
 * A connection or a listener.
 *
 * Owners hold references (refCount), and the last one frees it: Tcl's channel (until IocpChanClose
 * is done with it), each op in flight, each Tcl event in the queue, and each caller that has to
 * look at it after something that may close it. The descriptor lives until IocpChanTryFinish.
 */
struct IocpChan {
    Tcl_Channel channel;	/* NULL once Tcl has closed it. */
    Tcl_Obj *namePtr;		/* What a script got as its name (iocpName.c), or NULL. */
    IocpThread *threadPtr;
    IocpChan *nextPtr, *prevPtr;	/* IocpThread.chansPtr */
    /* The next one in a queue of its thread's, or itself if it is the last; NULL: not in there. */
    IocpChan *dirtyNextPtr, *readyNextPtr;
    IocpState state : 8;
    unsigned watchMask : 8;	/* What Tcl asks to be told. */
    unsigned eventQueued : 1;	/* Its event is in Tcl's queue; holds a reference. */
    unsigned waits : 1;		/* Nothing is submitted before the retry timer has run. */
    unsigned busyPolls : 1;	/* It is one of its thread's busyPollers. */
    unsigned errorUnread : 1;	/* -error has not told error or lookupError yet. */
    unsigned sendErrorUntold : 1;	/* No write has returned sendError yet. */
    unsigned flags;
    int refCount;
    int inFlight;		/* Ops of it in flight. */
    int heldTold;		/* So many bytes in Tcl's buffers have been told; -1: none. */
    int error;			/* Last errno of the connection, for -errorcode. */
    int lookupError;		/* EAI_* of a host that could not be looked up, or 0. */
    int sendError;		/* errno of a failed send, or 0. Nothing is accepted after it. */
    IocpTimed *timedPtr;	/* NULL: it has no time-out. */
    uint64_t lingerEnd;		/* When a CLOSING channel gives up, in IocpNow's time. */
    const IocpSettings *settingsPtr;	/* Shared with others (iocpSettings.c). */
    IocpHandle handle;
    IocpConnect *connectPtr;
    IocpListener *listenerPtr;	/* NULL for a connection. */
    IocpProxy *proxyPtr;	/* Of a connection from a proxy, or NULL. */
    IocpSend *sendPtr;
    IocpCopy *sourcePtr;	/* The copy that reads the channel, or NULL (iocpCopy.c). */
    /* Receiving (iocpRecv.c): what is received and not read, oldest first. */
    IocpOp recvOp;
    IocpBuf *recvFirstPtr, *recvLastPtr;
    size_t recvRun;		/* Bytes that Tcl took since it heard that there are no more. */
    int recvCount;		/* Buffers in that chain. */
    int recvDepth;		/* Burst-detection: buffers to post next. */
    int recvError;		/* errno to tell once all data is read, or 0. */
    int forkStale;		/* Forked child: bytes in Tcl's buffers that its parent sends. */
};

/* One socket of a listener (there is one for each address family). */
typedef struct IocpAcceptor {
    IocpChan *chanPtr;
    IocpHandle handle;
    IocpOp op;
} IocpAcceptor;

/* A connection that is accepted and not delivered: a descriptor, or a channel with what it got. */
typedef struct IocpAccepted {
    struct IocpAccepted *nextPtr;
    IocpSocket fd;
    IocpChan *chanPtr;		/* NULL: not made yet. */
} IocpAccepted;

struct IocpListener {
    Tcl_TcpAcceptProc *acceptProc;
    void *acceptData;		/* Belongs to whoever opened the listener. */
    int moved;			/* Has come from another thread, and nobody takes its script on. */
    int backlog;		/* Connections accepted ahead of the script at most. */
    int accepting;		/* More are to be accepted. */
    IocpAccepted *firstPtr, *lastPtr;	/* Accepted and not delivered. */
    int acceptedCount;
    IocpChan *proxyFirstPtr, *proxyLastPtr;	/* Those whose header is awaited (iocpProxy.c). */
    int proxyCount;
    int acceptorCount;		/* Sockets that are open. */
    int acceptorMax;		/* Sockets that there is room for. */
    IocpAcceptor acceptors[];	/* As many as addresses are bound. */
};

/* What a proxy says of a connection. */
typedef struct IocpProxyAddrs {
    int known;			/* 0: nothing, it is the proxy's own. */
    IocpSockaddr peer, local;	/* As its client has them. */
} IocpProxyAddrs;

/*
 * The connection's part in iocpProxy.c; belongs to its channel. While the header is awaited, the
 * channel has no other owner than the list of its listener.
 */
struct IocpProxy {
    IocpChan *listenPtr;	/* Whose list it is on; NULL: the header has come. */
    IocpChan *nextPtr, *prevPtr;
    IocpBuf *headPtr;		/* What has come of the header, or NULL. */
    IocpProxyAddrs addrs;
};

/*
 * A copy that is under way, and the procedure that makes each move:
 *
 *	WAITING -> MOVING	Start: all that was written before is in the kernel
 *	MOVING -> WAITING	IocpMoveDone
 *	WAITING -> ENDED	Start, IocpMoveDone: what is left is fcopy's
 *	ENDED -> gone		CopyRest
 *	any -> gone		Stop: a script has closed one of the channels, or the like
 *
 * The connections that it reads and writes hold it. One that sends a file outlives the last move
 * while its op is in flight (IocpSend.filePtr), and IocpMoveDone frees it.
 */
struct IocpCopy {
    IocpFileOp fileOp;		/* Must be first. file is the copy's own descriptor; none between
				 * connections. */
    enum { IOCP_COPY_WAITING, IOCP_COPY_MOVING, IOCP_COPY_ENDED } state;
    int held;			/* > 0: not to go on now. */
    IocpChan *fromPtr;		/* The connection that is read; NULL: a file is. */
    IocpChan *toPtr;		/* The connection that is written to; NULL: a file is. */
    IocpChan *chanPtr;		/* toPtr or else fromPtr: the op is its, and so is the event. */
    Tcl_Channel in, out;
    Tcl_Interp *interp;		/* Its deletion stops the copy. */
    Tcl_CmdInfo fcopy;
    Tcl_Obj *commandPtr;	/* NULL: in the foreground. */
    IocpGuard *inGuardPtr, *outGuardPtr;	/* The latter NULL in the foreground. */
    int64_t start;		/* In a file that is read. */
    int64_t copied;
    int64_t size;		/* -1: to the end. */
};

/*
 * IocpThreadSettle --
 *	First of all in everything that Tcl calls: nothing here may touch a parent's engine.
 */
void IocpThreadForked(IocpThread *threadPtr);

static inline void
IocpThreadSettle(IocpThread *threadPtr)
{
    if (threadPtr->forked) {
	IocpThreadForked(threadPtr);
    }
}

/* How a wait of Tcl's event loop on the engine ended. */
typedef enum IocpHost {
    IOCP_HOST_NO_ENGINE,	/* The thread has none, so there was no wait. */
    IOCP_HOST_NOTHING,		/* The other descriptor is not readable. */
    IOCP_HOST_ATTEND		/* It is. */
} IocpHost;

/* iocpBuf.c */
void *IocpAlloc(IocpThread *threadPtr, size_t size);
void IocpFree(IocpThread *threadPtr, void *memory, size_t size);
IocpBuf *IocpBufNew(IocpThread *threadPtr, size_t size);
IocpBuf *IocpBufCopy(IocpThread *threadPtr, const char *data, size_t size);
void IocpBufFree(IocpThread *threadPtr, IocpBuf *bufPtr);
void IocpBufFreeChain(IocpThread *threadPtr, IocpBuf *bufPtr);
void IocpBufAppend(IocpBuf **firstPtrPtr, IocpBuf **lastPtrPtr, IocpBuf *bufPtr);

/* iocpStats.c */
#define IOCP_COUNT(threadPtr, name, n) IOCP_ADD((threadPtr)->stats[IOCP_STAT_##name], n)
void IocpStatsAddThread(IocpThread *threadPtr);
void IocpStatsSetEngine(IocpThread *threadPtr, IocpEngine *enginePtr);
void IocpStatsRemoveThread(IocpThread *threadPtr);
int IocpThreadCount(void);
void IocpThreadEach(void (*proc)(IocpThread *threadPtr, void *clientData), void *clientData);
void IocpStatsForked(void);
Tcl_ObjCmdProc IocpStatsObjCmd;
Tcl_ObjCmdProc IocpStatsDictObjCmd;

/* iocpThread.c */
IocpThread *IocpThreadGet(char *reason, size_t size);
IocpThread *IocpThreadEnter(int *errorPtr);
void IocpThreadAddInterp(IocpThread *threadPtr, Tcl_Interp *interp);
void IocpThreadRelease(IocpThread *threadPtr);
int IocpThreadIsCurrent(IocpThread *threadPtr);
int IocpThreadEnds(IocpThread *threadPtr);
void IocpThreadReap(IocpThread *threadPtr);
void IocpThreadBusyPoll(IocpChan *chanPtr, int us);
int IocpThreadWait(IocpThread *threadPtr, int64_t timeoutNs);
IocpHost IocpThreadHost(int fd, int64_t timeoutNs);
void IocpThreadUnattend(void);
void IocpThreadUnwatch(void);
int IocpThreadMayDefer(IocpChan *chanPtr);
void IocpThreadRetryLater(IocpThread *threadPtr);
void IocpThreadTick(IocpThread *threadPtr);
int64_t IocpThreadDue(IocpThread *threadPtr);
void IocpThreadLinger(IocpThread *threadPtr);
void IocpThreadDrain(IocpThread *threadPtr);
uint64_t IocpThreadLingerEnd(IocpThread *threadPtr, int lingerSeconds);
int IocpOpSubmit(IocpChan *chanPtr, IocpOp *opPtr);
void IocpOpCancel(IocpChan *chanPtr, IocpOp *opPtr);
void IocpOpStop(IocpChan *chanPtr, IocpOp *opPtr);

/* iocpTimeout.c */
int IocpTimeoutWatch(IocpChan *chanPtr);
void IocpTimeoutForget(IocpChan *chanPtr);
void IocpTimeoutReceived(IocpChan *chanPtr, size_t size);
void IocpTimeoutSent(IocpChan *chanPtr);
void IocpTimeoutWait(IocpChan *chanPtr);
void IocpTimeoutTick(IocpThread *threadPtr, uint64_t now);
uint64_t IocpTimeoutDue(const IocpThread *threadPtr);

/* port/watchFile.c, port/watchAlert.c */
void IocpEventWatch(IocpThread *threadPtr);
void IocpEventUnwatch(IocpThread *threadPtr);

/* iocpEvent.c */
void IocpEventSourceNew(IocpThread *threadPtr);
void IocpEventSourceFree(IocpThread *threadPtr);
void IocpEventPost(IocpChan *chanPtr);
void IocpEventTell(IocpChan *chanPtr);
void IocpEventNudge(IocpThread *threadPtr);
void IocpEventForget(IocpChan *chanPtr);
int IocpEventTells(const IocpChan *chanPtr);
void IocpEventDirty(IocpChan *chanPtr);
void IocpEventDirtySoon(IocpChan *chanPtr);
void IocpEventStream(IocpChan *chanPtr);
void IocpEventFlushDirty(IocpThread *threadPtr);
void IocpEventDropQueues(IocpThread *threadPtr);

/* iocpNotify.c, port/noHost.c */
int IocpNotifierHosts(void);
int IocpNotifierSelects(void);
void IocpNotifierRest(void);
int IocpNotifierHost(Tcl_Interp *interp, const char *command);

/* iocpChan.c */
extern const Tcl_ChannelType iocpChannelType;
IocpChan *IocpChanOf(Tcl_Channel channel);
IocpChan *IocpChanNew(IocpThread *threadPtr, IocpSocket fd, IocpState state);
int IocpChanCreate(Tcl_Interp *interp, IocpChan *chanPtr, int mode);
void IocpChanAttach(IocpChan *chanPtr);
void IocpChanRef(IocpChan *chanPtr);
void IocpChanUnref(IocpChan *chanPtr);
int IocpChanReady(const IocpChan *chanPtr);
void IocpChanTellBuffered(IocpChan *chanPtr, int again);
void IocpChanError(IocpChan *chanPtr, int error);
void IocpChanTryFinish(IocpChan *chanPtr);
void IocpChanAbort(IocpChan *chanPtr);
void IocpChanForked(IocpChan *chanPtr);
void IocpChanForget(IocpChan *chanPtr);
int IocpChanClose(IocpChan *chanPtr);
void IocpChanDrop(IocpChan *chanPtr);

/* iocpRecv.c */
int IocpRecvRead(IocpChan *chanPtr, char *buf, int toRead, int *errorCodePtr);
void IocpRecvArm(IocpChan *chanPtr);
void IocpRecvEndRepeat(IocpChan *chanPtr);
void IocpRecvDone(IocpChan *chanPtr, const IocpCompletion *compPtr);
size_t IocpRecvTake(IocpChan *chanPtr, char *buf, size_t room);
void IocpRecvPutBack(IocpChan *chanPtr, IocpBuf *bufPtr);
void IocpRecvConsume(IocpChan *chanPtr, size_t size);
int IocpRecvUnread(IocpChan *chanPtr);
void IocpRecvDiscard(IocpChan *chanPtr);
void IocpRecvDetachPool(IocpChan *chanPtr);

/* iocpSend.c */
extern const IocpSend iocpNoSend;
int IocpSendWrite(IocpChan *chanPtr, const char *buf, int toWrite, int *errorCodePtr);
int IocpSendOpen(IocpChan *chanPtr);
void IocpSendFree(IocpChan *chanPtr);
void IocpSendStart(IocpChan *chanPtr);
void IocpSendDone(IocpChan *chanPtr, const IocpCompletion *compPtr);
void IocpSendLast(IocpChan *chanPtr);
int IocpSendLater(int result);
void IocpSendDiscard(IocpChan *chanPtr);
void IocpSendCancel(IocpChan *chanPtr);
void IocpSendForget(IocpChan *chanPtr);
void IocpSendShutdown(IocpChan *chanPtr);
void IocpSendRetryLater(IocpChan *chanPtr);
void IocpSendPushed(IocpChan *chanPtr, size_t size, int error);

/* iocpDefer.c */
int IocpDeferMay(IocpChan *chanPtr);
void IocpDeferAdd(IocpChan *chanPtr);
void IocpDeferTake(IocpChan *chanPtr);
void IocpDeferTakeAll(IocpThread *threadPtr);
void IocpDeferPushAll(void);
void IocpDeferForked(void);

/* iocpCopy.c */
void IocpCopyInit(Tcl_Interp *interp);
void IocpCopyServe(IocpChan *chanPtr);
void IocpCopyStop(IocpChan *chanPtr);
void IocpCopyStopAll(IocpThread *threadPtr, Tcl_Interp *interp);
Tcl_ObjCmdProc IocpCopiedObjCmd;

/* iocpMove.c */
IocpCopy *IocpMoveNew(IocpChan *fromPtr, IocpChan *toPtr, IocpFile file);
void IocpMoveFree(IocpCopy *copyPtr);
void IocpMoveAttach(IocpCopy *copyPtr);
void IocpMoveDetach(IocpCopy *copyPtr);
void IocpMoveStart(IocpChan *chanPtr);
void IocpMoveDone(IocpChan *chanPtr, const IocpCompletion *compPtr);
void IocpMoveSettle(IocpCopy *copyPtr);
void IocpMoveCancel(IocpChan *chanPtr);
void IocpMoveReadEnds(IocpChan *chanPtr);
int IocpMoveTakes(const IocpChan *chanPtr);
void IocpMoveForget(IocpChan *chanPtr);

/* iocpGuard.c */
typedef void IocpGuardProc(void *clientData);
IocpGuard *IocpGuardGet(void);
Tcl_Channel IocpGuardChannel(const IocpGuard *guardPtr);
void IocpGuardTell(IocpGuard *guardPtr, IocpGuardProc *stoppedProc, void *clientData);
void IocpGuardRelease(IocpGuard *guardPtr);
void IocpGuardThreadEnds(void);

/* iocpConnect.c */
Tcl_Channel IocpOpenClient(Tcl_Interp *interp, int port, const char *host, const char *myaddr,
	int myport, int async, const IocpSettings *settingsPtr);
int IocpConnectWait(IocpChan *chanPtr, int *errorCodePtr);
void IocpConnectDone(IocpChan *chanPtr, const IocpCompletion *compPtr);
void IocpConnectStart(IocpChan *chanPtr);
void IocpConnectLeave(IocpChan *chanPtr);
void IocpConnectAgain(IocpChan *chanPtr);
void IocpConnectFail(IocpChan *chanPtr, int error);
void IocpConnectFree(IocpChan *chanPtr);

/* iocpListen.c */
Tcl_Channel IocpOpenServer(Tcl_Interp *interp, int port, const char *host,
	Tcl_TcpAcceptProc *acceptProc, void *acceptData, int backlog,
	const IocpSettings *settingsPtr);
void IocpListenArm(IocpChan *chanPtr);
void IocpListenDeliver(IocpChan *chanPtr);
void IocpListenAccepting(IocpChan *chanPtr, int accepting);
void IocpListenDone(IocpAcceptor *acceptorPtr, const IocpCompletion *compPtr);
int IocpListenQueue(IocpChan *chanPtr, IocpSocket fd, IocpChan *newPtr);
void IocpListenLeave(IocpChan *chanPtr);
void IocpListenClose(IocpChan *chanPtr);
void IocpListenFree(IocpChan *chanPtr);

/* iocpProxy.c */
int IocpProxyParse(const char *bytes, size_t size, IocpProxyAddrs *addrsPtr);
int IocpProxyBegin(IocpChan *listenPtr, IocpSocket fd);
int IocpProxyAwaits(const IocpChan *chanPtr);
void IocpProxyReceived(IocpChan *chanPtr);
void IocpProxyRefuse(IocpChan *chanPtr);
void IocpProxyClose(IocpChan *listenPtr);
void IocpProxyFree(IocpChan *chanPtr);

/* iocpInherit.c */
int IocpInheritTake(const struct addrinfo *listPtr, IocpSocket *fds);
void IocpInheritForked(void);
Tcl_ObjCmdProc IocpInheritObjCmd;

/* iocpAccept.c */
IocpAcceptScript *IocpAcceptScriptNew(Tcl_Interp *interp, Tcl_Obj *scriptPtr);
Tcl_CloseProc IocpAcceptScriptFree;
int IocpAcceptTakeOn(IocpAcceptScript *acceptPtr, IocpChan *chanPtr);
Tcl_TcpAcceptProc IocpAcceptProc;
void IocpAcceptForked(void);

/* iocpAddr.c */
void IocpQueryInit(IocpQuery *queryPtr, Tcl_Interp *interp, const char *host, int port,
	int willBind, IocpProtocol protocol);
int IocpQueryTry(IocpQuery *queryPtr);
void IocpQueryRun(IocpQuery *queryPtr);
void IocpQueryFree(IocpQuery *queryPtr);
void IocpQueryOpenError(Tcl_Interp *interp, const IocpQuery *queryPtr);
void IocpQueryErrorCode(Tcl_DString *dsPtr, int result);
int IocpAddrGetPort(Tcl_Interp *interp, const char *string, int *portPtr);
socklen_t IocpAddrLength(const IocpSockaddr *addrPtr);
void IocpAddrAppend(Tcl_Interp *interp, Tcl_DString *dsPtr, const IocpSockaddr *addrPtr,
	socklen_t length);
void IocpOpenError(Tcl_Interp *interp, int error);

/* iocpResolve.c */
IocpResolve *IocpResolveStart(IocpQuery *queries, int count, IocpResolvedProc *doneProc,
	void *clientData);
int IocpResolveTake(IocpResolve *resolvePtr, IocpQuery *queries);
void IocpResolveLeave(IocpResolve *resolvePtr);
void IocpResolveJoin(IocpResolve *resolvePtr);
void IocpResolveFree(IocpResolve *resolvePtr);
void IocpResolveThreadEnds(void);
void IocpResolveForked(void);

/* iocpLookup.c */
int IocpLookup(Tcl_Interp *interp, const char *name, IocpProtocol protocol, Tcl_Obj *commandPtr);

/* iocpSocket.c */
IocpSocket IocpSocketNew(int family, const IocpSettings *settingsPtr);
IocpSocket IocpSocketRaise(IocpSocket fd);
int IocpSocketSet(IocpSocket fd, IocpSockopt which, int64_t value);
int IocpSocketGet(IocpSocket fd, IocpSockopt which, int64_t *valuePtr);
void IocpSocketInherit(IocpSocket fd, const IocpSettings *settingsPtr);
IocpProtocol IocpSocketProtocol(IocpSocket fd);
int IocpSocketApply(IocpSocket fd, const IocpSettings *settingsPtr);
int IocpSocketCheck(IocpSocket fd, int listening);
IocpSocket IocpSocketCopy(IocpSocket fd);
void IocpSocketAdopt(IocpSocket fd);

/* iocpName.c */
Tcl_Obj *IocpNameNew(IocpChan *chanPtr);
void IocpNameForget(Tcl_Obj *namePtr);
void IocpNameDrop(IocpChan *chanPtr);

/* iocpSettings.c */
extern const IocpSettings iocpDefaultSettings;
int IocpSettingsPut(IocpChan *chanPtr, const IocpSettings *settingsPtr);
void IocpSettingsShare(IocpChan *chanPtr, const IocpChan *otherPtr);
void IocpSettingsDrop(IocpChan *chanPtr);

/* iocpOption.c */
Tcl_DriverSetOptionProc IocpSetOption;
Tcl_DriverGetOptionProc IocpGetOption;
int IocpError(Tcl_Interp *interp, const char *message);
int IocpSystemError(Tcl_Interp *interp, const char *what);
void IocpAppendInt(Tcl_DString *dsPtr, Tcl_WideInt value);
int IocpSocketCount(const IocpChan *chanPtr);
IocpSocket IocpSocketAt(const IocpChan *chanPtr, int index);

/* iocpStream.c */
void IocpStreamSend(IocpChan *chanPtr, int toWrite);
int IocpStreamLasts(const IocpChan *chanPtr);
void IocpStreamEnd(IocpChan *chanPtr);
void IocpStreamCheck(IocpChan *chanPtr);

/* iocpSockopt.c */
int IocpSockoptGet(Tcl_Interp *interp, IocpChan *chanPtr, const char *name, Tcl_DString *dsPtr);
int IocpSockoptSet(Tcl_Interp *interp, IocpChan *chanPtr, const char *name, const char *value);
int IocpSockoptGetProtocol(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr);
int IocpSockoptGetQos(Tcl_Interp *interp, IocpChan *chanPtr, Tcl_DString *dsPtr);
int IocpSockoptSetQos(Tcl_Interp *interp, IocpChan *chanPtr, const char *value);
int IocpQosParse(Tcl_Interp *interp, const char *value, int64_t *sockopts);

/* iocpStubs.c */
extern const IocpStubs iocpStubs;

/* iocpCmd.c */
Tcl_ObjCmdProc IocpSocketObjCmd;
Tcl_ObjCmdProc IocpEngineObjCmd;
Tcl_ObjCmdProc IocpEnginesObjCmd;
Tcl_ObjCmdProc IocpNotifierObjCmd;
Tcl_ObjCmdProc IocpModulePathObjCmd;

/* iocpTest.c */
#ifdef IOCP_TESTING
int IocpTestOutOfMemory(void);
Tcl_ObjCmdProc IocpTestObjCmd;
#   define IOCP_OUT_OF_MEMORY() IocpTestOutOfMemory()
#else
#   define IOCP_OUT_OF_MEMORY() 0
#endif

#endif /* IOCP_INT_H */
