//! A few dozen instructions do not need a compiler: an assembler for eBPF (RFC 9669) with
//! labels. The kernel's verifier has the last word on every program.

use std::collections::BTreeMap;

/// A register of the eBPF machine (RFC 9669 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reg {
    /// Results; scratch.
    R0 = 0,
    /// First argument of a call, then scratch.
    R1,
    R2,
    R3,
    R4,
    /// These four survive calls.
    R6 = 6,
    R7,
    R8,
    R9,
    /// One past the top of the stack; read-only.
    Stack,
}

/// Width of a memory access in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Two,
    Four,
    Eight,
}

impl Width {
    const fn bits(self) -> u8 {
        match self {
            Self::Four => 0x00,
            Self::Two => 0x08,
            Self::One => 0x10,
            Self::Eight => 0x18,
        }
    }
}

/// When to jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    NotEqual,
    /// Unsigned.
    Greater,
    /// Signed.
    Negative,
}

impl When {
    const fn bits(self) -> u8 {
        match self {
            Self::NotEqual => 0x50,
            Self::Greater => 0x20,
            Self::Negative => 0xc0,
        }
    }
}

/// A place that jumps lead to.
pub(super) type Label = &'static str;

const FROM_REGISTER: u8 = 0x08;
const ALU64: u8 = 0x07;
const JMP: u8 = 0x05;

/// A program that grows.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<u64>,
    labels: BTreeMap<Label, usize>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn emit(&mut self, opcode: u8, to: Reg, from: u8, offset: i16, value: i32) -> &mut Self {
        let offset = u16::from_ne_bytes(offset.to_ne_bytes());
        let value = u32::from_ne_bytes(value.to_ne_bytes());
        self.code.push(
            u64::from(opcode)
                | u64::from(to as u8 | from << 4) << 8
                | u64::from(offset) << 16
                | u64::from(value) << 32,
        );
        self
    }

    /// `to = from`.
    pub(super) fn copy(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.emit(0xb0 | ALU64 | FROM_REGISTER, to, from as u8, 0, 0)
    }

    /// `to = value`, sign-extended.
    pub(super) fn set(&mut self, to: Reg, value: i32) -> &mut Self {
        self.emit(0xb0 | ALU64, to, 0, 0, value)
    }

    /// `to = value`, zero-extended.
    pub(super) fn set_u32(&mut self, to: Reg, value: u32) -> &mut Self {
        self.emit(0xb4, to, 0, 0, i32::from_ne_bytes(value.to_ne_bytes()))
    }

    /// `to += from`.
    pub(super) fn add(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.emit(ALU64 | FROM_REGISTER, to, from as u8, 0, 0)
    }

    /// `to += value`.
    pub(super) fn add_value(&mut self, to: Reg, value: i32) -> &mut Self {
        self.emit(ALU64, to, 0, 0, value)
    }

    /// `to &= value`.
    pub(super) fn and(&mut self, to: Reg, value: i32) -> &mut Self {
        self.emit(0x50 | ALU64, to, 0, 0, value)
    }

    /// `to = !to`.
    pub(super) fn not(&mut self, to: Reg) -> &mut Self {
        self.emit(0xa0 | ALU64, to, 0, 0, -1)
    }

    /// `to >>= bits`.
    pub(super) fn shift_right(&mut self, to: Reg, bits: i32) -> &mut Self {
        self.emit(0x70 | ALU64, to, 0, 0, bits)
    }

    /// Between the low 16 bits in this machine's and in network byte order.
    pub(super) fn swap_u16(&mut self, to: Reg) -> &mut Self {
        self.emit(0xdc, to, 0, 0, 16)
    }

    /// `to = *(base + offset)`, zero-extended.
    pub(super) fn load(&mut self, width: Width, to: Reg, base: Reg, offset: i16) -> &mut Self {
        self.emit(0x61 | width.bits(), to, base as u8, offset, 0)
    }

    /// `*(base + offset) = from`.
    pub(super) fn store(&mut self, width: Width, base: Reg, offset: i16, from: Reg) -> &mut Self {
        self.emit(0x63 | width.bits(), base, from as u8, offset, 0)
    }

    /// `*(base + offset) = value`.
    pub(super) fn put(&mut self, width: Width, base: Reg, offset: i16, value: i32) -> &mut Self {
        self.emit(0x62 | width.bits(), base, 0, offset, value)
    }

    /// `*(base + offset) += from`, at once for all CPUs; 8 bytes.
    pub(super) fn atomic_add(&mut self, base: Reg, offset: i16, from: Reg) -> &mut Self {
        self.emit(0xc3 | Width::Eight.bits(), base, from as u8, offset, 0)
    }

    /// `to` = where the value of the array `map` (a file descriptor) lies.
    pub(super) fn address_of_map(&mut self, to: Reg, map: i32) -> &mut Self {
        const MAP_VALUE: u8 = 2;
        self.emit(0x18, to, MAP_VALUE, 0, map);
        self.code.push(0);
        self
    }

    /// `r0 = helper(r1, …)`.
    pub(super) fn call(&mut self, helper: i32) -> &mut Self {
        self.emit(0x80 | JMP, Reg::R0, 0, 0, helper)
    }

    /// Returns `r0`.
    pub(super) fn exit(&mut self) -> &mut Self {
        self.emit(0x90 | JMP, Reg::R0, 0, 0, 0)
    }

    /// Goes to `label` when `left` compares so with `right`.
    pub(super) fn jump_if(&mut self, left: Reg, when: When, right: Reg, label: Label) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        let opcode = when.bits() | JMP | FROM_REGISTER;
        self.emit(opcode, left, right as u8, 0, 0)
    }

    /// Goes to `label` when `left` compares so with `right`.
    pub(super) fn jump_if_value(
        &mut self,
        left: Reg,
        when: When,
        right: i32,
        label: Label,
    ) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        self.emit(when.bits() | JMP, left, 0, 0, right)
    }

    /// Goes to `label`.
    pub(super) fn jump(&mut self, label: Label) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        self.emit(JMP, Reg::R0, 0, 0, 0)
    }

    /// `label` is here.
    pub(super) fn label(&mut self, label: Label) -> &mut Self {
        self.labels.insert(label, self.code.len());
        self
    }

    /// The finished program; `None` when a label is missing or too far away.
    pub(super) fn finish(self) -> Option<Vec<u64>> {
        let mut code = self.code;
        for (at, label) in self.jumps {
            let target = self.labels.get(label)?;
            let distance = i64::try_from(*target).ok()? - i64::try_from(at).ok()? - 1;
            let distance = u16::from_ne_bytes(i16::try_from(distance).ok()?.to_ne_bytes());
            *code.get_mut(at)? |= u64::from(distance) << 16;
        }
        Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the words of a disassembled program: `r0 = 1; if r1 != 0 goto end; r0 = 2; end:
    /// exit`.
    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut a = Assembler::default();
        a.set(Reg::R0, 1)
            .jump_if_value(Reg::R1, When::NotEqual, 0, "end")
            .set(Reg::R0, 2)
            .label("end")
            .exit();
        let expected = [
            0x0000_0001_0000_00b7,
            0x0000_0000_0001_0155,
            0x0000_0002_0000_00b7,
            0x0000_0000_0000_0095,
        ];
        assert_eq!(a.finish().unwrap(), expected);
    }

    #[test]
    fn a_missing_label_is_no_program() {
        let mut a = Assembler::default();
        a.jump("nowhere");
        assert_eq!(a.finish(), None);
    }
}
