/* Runs the generated network once and prints its outputs and the time of a 25 MHz timer. Under `-icount shift=0`
 * one instruction takes 1 ns, so that one tick is 40 instructions. */
#include <stdint.h>
#include <stdio.h>

#include "network.h" /* INPUT, OUTPUT_COUNT, RUN(output): written by cortex_m.py */

extern char __stack;
void _start(void);
void reset(void) __attribute__((naked));
void _init(void) {}
void _fini(void) {}

__attribute__((section(".vectors"), used)) static void *const vectors[] = {&__stack, (void *)reset};

void reset(void) {
    /* full access to the FPU before anything uses it */
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20;
    __asm volatile("dsb\n isb\n ldr r0, =_start\n bx r0");
}

#define TIMER ((volatile uint32_t *)0x40000000) /* CMSDK APB timer 0: control, value, reload */

static float output[OUTPUT_COUNT];

#define REACH (1 << 20) /* bytes below main that the network's stack may use */
#define PAINT 0xA5A5A5A5u

static uint32_t *here(void) { return (uint32_t *)__builtin_frame_address(0) - 64; }

/* Bytes of stack used below the caller since the paint was laid. */
static uint32_t stack_bytes(uint32_t *top) {
    volatile uint32_t *p = top - REACH / 4;
    while ((uint32_t *)p < top && *p == PAINT) p++;
    return (uint32_t)((char *)top - (char *)p);
}

int main(void) {
    TIMER[2] = 0xFFFFFFFFu;
    TIMER[1] = 0xFFFFFFFFu;
    TIMER[0] = 1;
    uint32_t *top = here();
    for (volatile uint32_t *p = top - REACH / 4; (uint32_t *)p < top; p++) *p = PAINT;
    uint32_t before = TIMER[1];
    RUN(output);
    uint32_t after = TIMER[1];
    uint32_t stack = stack_bytes(top);
    printf("ticks %lu\nstack %lu\n", (unsigned long)(before - after), (unsigned long)stack);
    for (int i = 0; i < OUTPUT_COUNT; i++) {
        uint32_t bits;
        __builtin_memcpy(&bits, &output[i], sizeof bits);
        printf("out %08lx\n", (unsigned long)bits);
    }
    return 0;
}
