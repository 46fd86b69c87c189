/* SPDX-License-Identifier: Apache-2.0 */
/* The files of cpu/ (not cpu/once/) are compiled once per instruction set, with LIGHT_CPU_ISA set to generic, avx2
 * or avx512. Every function with external linkage in them is named LIGHT_ISA(name), which gives name_generic,
 * name_avx2 and name_avx512, so that the copies can live in one library. A test checks this on the built library. */
#ifndef LIGHT_CPU_ISA_H
#define LIGHT_CPU_ISA_H

#define LIGHT_ISA_PASTE(name, isa)  name##_##isa
#define LIGHT_ISA_EXPAND(name, isa) LIGHT_ISA_PASTE(name, isa)

#ifdef LIGHT_CPU_ISA
#define LIGHT_ISA(name) LIGHT_ISA_EXPAND(name, LIGHT_CPU_ISA)
#endif

#endif
