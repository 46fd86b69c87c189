/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/sim/fiber.h"

#include "cuda/sim/sanitizer.h"

#include <cstdint>
#include <cstring>
#include <new>
#include <sys/mman.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#define LIGHT_SIM_UCONTEXT
#endif
#ifdef LIGHT_SIM_UCONTEXT
#include <ucontext.h>
#endif

namespace sim
{

enum { GUARD = 64 << 10 }; /* no page is larger */
static const size_t STACK = 256 << 10;

/* ---- the switch itself --------------------------------------------------------- */

/* Registers that a function must preserve go to the stack; the stack pointer is stored, another one taken. ucontext
 * would do this with two system calls, which cost forty times as much. */
#if defined(LIGHT_SIM_UCONTEXT)

static void jump(fiber *from, fiber *to)
{
    ucontext_t here;
    from->at = &here;
    swapcontext(&here, (ucontext_t *)to->at);
}

static void prepare(fiber *f, void (*entry)())
{
    ucontext_t *start = (ucontext_t *)(f->stack + GUARD); /* at the far end of the stack */
    getcontext(start);
    start->uc_stack.ss_sp = f->stack + GUARD + sizeof *start;
    start->uc_stack.ss_size = STACK - sizeof *start;
    start->uc_link = nullptr;
    makecontext(start, entry, 0);
    f->at = start;
}

#else

extern "C" void light_sim_switch(void **save, void *load);

#if defined(__x86_64__)
asm(R"(
    .text
    .globl light_sim_switch
    .hidden light_sim_switch
    .type light_sim_switch, @function
light_sim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size light_sim_switch, .-light_sim_switch
)");
enum {
    SAVED_WORDS = 8,
    RETURN_WORD = 6
}; /* one more than is popped: an entry's stack is aligned as after a call */
#else
asm(R"(
    .text
    .globl light_sim_switch
    .hidden light_sim_switch
    .type light_sim_switch, %function
light_sim_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size light_sim_switch, .-light_sim_switch
)");
enum { SAVED_WORDS = 20, RETURN_WORD = 11 };
#endif

static void jump(fiber *from, fiber *to)
{
    light_sim_switch(&from->at, to->at);
}

static void prepare(fiber *f, void (*entry)())
{
    void **top = (void **)(f->stack + GUARD + STACK) - SAVED_WORDS;
    memset(top, 0, SAVED_WORDS * sizeof *top);
    top[RETURN_WORD] = (void *)entry;
    f->at = top;
}

#endif

/* ---- fibers --------------------------------------------------------------------- */

static fiber *previous; /* that was left for the one that runs */

fiber *new_fiber(void (*entry)())
{
    fiber *f = new (std::nothrow) fiber();
    if (!f) return nullptr;
    void *memory = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        delete f;
        return nullptr;
    }
    mprotect(memory, GUARD, PROT_NONE);
    f->stack = (char *)memory;
    f->bottom = f->stack + GUARD;
    f->size = STACK;
#ifdef LIGHT_SIM_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
    prepare(f, entry);
    return f;
}

void restart_fiber(fiber *f, void (*entry)())
{
    ASAN_UNPOISON_MEMORY_REGION(f->bottom, f->size); /* of the frames that are given up */
    prepare(f, entry);
}

void entered_fiber()
{
#ifdef LIGHT_SIM_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &previous->bottom, &previous->size);
#endif
}

void switch_fiber(fiber *from, fiber *to)
{
    previous = from;
#ifdef LIGHT_SIM_TSAN
    if (!from->stack) from->tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
#ifdef LIGHT_SIM_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->size);
#endif
    jump(from, to);
#ifdef LIGHT_SIM_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, &previous->bottom, &previous->size);
#endif
}

} // namespace sim
