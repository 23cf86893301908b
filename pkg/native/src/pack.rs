//! MessagePack as msgspec writes it: the shortest form of every integer, floats as 64 bits.

pub struct Packer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Packer<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.clear();
        Packer { out }
    }

    pub fn array(&mut self, count: usize) {
        match count {
            0..=15 => self.out.push(0x90 | count as u8),
            16..=0xffff => self.tagged(0xdc, &(count as u16).to_be_bytes()),
            _ => self.tagged(0xdd, &(count as u32).to_be_bytes()),
        }
    }

    pub fn text(&mut self, text: &str) {
        let count = text.len();
        match count {
            0..=31 => self.out.push(0xa0 | count as u8),
            32..=0xff => self.tagged(0xd9, &[count as u8]),
            0x100..=0xffff => self.tagged(0xda, &(count as u16).to_be_bytes()),
            _ => self.tagged(0xdb, &(count as u32).to_be_bytes()),
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    #[inline]
    pub fn integer(&mut self, value: i64) {
        match value {
            0..=0x7f => self.out.push(value as u8),
            0x80..=0xff => self.tagged(0xcc, &[value as u8]),
            0x100..=0xffff => self.tagged(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, &(value as u32).to_be_bytes()),
            0x1_0000_0000.. => self.tagged(0xcf, &value.to_be_bytes()),
            -32..=-1 => self.out.push(value as u8),
            -0x80..=-33 => self.tagged(0xd0, &[value as u8]),
            -0x8000..=-0x81 => self.tagged(0xd1, &(value as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.tagged(0xd2, &(value as i32).to_be_bytes()),
            _ => self.tagged(0xd3, &value.to_be_bytes()),
        }
    }

    pub fn float(&mut self, value: f64) {
        self.tagged(0xcb, &value.to_be_bytes());
    }

    pub fn boolean(&mut self, value: bool) {
        self.out.push(if value { 0xc3 } else { 0xc2 });
    }

    #[inline(always)]
    fn tagged(&mut self, tag: u8, rest: &[u8]) {
        self.out.push(tag);
        self.out.extend_from_slice(rest);
    }
}
