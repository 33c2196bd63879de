/*
 * iocpsock.h --
 *	What libiocpsock exports: the two procedures that Tcl's load looks for, and a few for a host
 *	program, none of which needs a Tcl interpreter.
 */

#ifndef IOCPSOCK_H
#define IOCPSOCK_H

#if defined(_WIN32)
#   define IOCP_EXPORT __declspec(dllexport)
#else
#   define IOCP_EXPORT __attribute__((visibility("default")))
#endif

struct Tcl_Interp;

IOCP_EXPORT int Iocpsock_Init(struct Tcl_Interp *interp);
IOCP_EXPORT int Iocpsock_SafeInit(struct Tcl_Interp *interp);

typedef struct IocpEngineInfo {
    const char *name;		/* "io_uring", "epoll"; static. */
    int usable;			/* 1 if it could be set up just now. */
    char reason[256];		/* Why it could not, in words; empty if it could. */
} IocpEngineInfo;

/* The version of the driver, as the package says it. */
IOCP_EXPORT const char *Iocp_Version(void);

/*
 * Try every engine of this build. Fills in at most max of them, in order of preference, and returns
 * how many there are.
 */
IOCP_EXPORT int Iocp_GetEngines(IocpEngineInfo *infosPtr, int max);

/* The counters of the whole process, by number from 0; a name is static. */
IOCP_EXPORT int Iocp_StatCount(void);
IOCP_EXPORT const char *Iocp_StatName(int index);
IOCP_EXPORT unsigned long long Iocp_StatValue(int index);

/*
 * Send what channels of the calling thread that are closed already still have to send: for at most
 * timeoutMs (-1: no limit), and for each channel at most its -linger. Returns 1 if all is out, 0
 * if not. What is not out by then, the exit of the process and the end of the thread's last
 * interpreter no longer wait for.
 */
IOCP_EXPORT int Iocp_Drain(int timeoutMs);

#endif /* IOCPSOCK_H */
