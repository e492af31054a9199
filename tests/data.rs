//! The data module from outside: the memory that reading takes, and the real data set.

mod place;
mod required;

mod allocations {
    //! A global allocator that counts for each thread, so that concurrent tests do not mix.

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static LIVE: Cell<isize> = const { Cell::new(0) };
        static PEAK: Cell<isize> = const { Cell::new(0) };
    }

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    /// Counts allocated bytes. A thread that ends may free memory after its thread-locals are gone, hence `try_with`.
    fn account(bytes: isize) {
        let _ = LIVE.try_with(|live| {
            live.set(live.get() + bytes);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
        });
    }

    // SAFETY: every call is passed to the system's allocator unchanged; counting allocates nothing.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            account(layout.size() as isize);
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            account(-(layout.size() as isize));
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            account(layout.size() as isize);
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // The old block and the new one may exist at the same time.
            account(size as isize);
            account(-(layout.size() as isize));
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    /// The peak of the bytes that `work` allocates on this thread.
    pub fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
        let before = LIVE.get();
        PEAK.set(before);
        let result = work();
        ((PEAK.get() - before) as usize, result)
    }
}

mod memory {
    //! Neither a false header nor a gzip stream that inflates without end makes reading take much memory.

    use std::cell::Cell;
    use std::fs;
    use std::io::{self, Read, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use mlpconv::Error;
    use mlpconv::data::idx::Idx;
    use mlpconv::data::{Origin, Source, Splits, known};
    use mlpconv::error::IdxError;
    use proptest::prelude::*;

    use super::allocations::peak;

    /// The bytes that any file may take: the buffers of the reader and of the gzip decoder.
    const OVERHEAD: usize = 256 * 1024;

    fn header(code: u8, shape: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0, 0, code, shape.len() as u8];
        shape.iter().for_each(|length| bytes.extend(length.to_be_bytes()));
        bytes
    }

    fn gzip(mut content: impl Read) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        io::copy(&mut content, &mut encoder).unwrap();
        encoder.finish().unwrap()
    }

    /// Records of CIFAR-10 whose labels are classes, in as many bytes.
    fn records(bytes: usize) -> Vec<u8> {
        [&[1][..], &[7; 3072]].concat().into_iter().cycle().take(bytes).collect()
    }

    /// A data set of hostile files takes twice their content at most, damaged or not.
    #[test]
    fn a_data_set_takes_twice_its_files() {
        let images = |count: u32| [header(0x08, &[count, 28, 28]), vec![1; count as usize * 784]].concat();
        let labels = |count: u32| [header(0x08, &[count]), vec![1; count as usize]].concat();
        let mnist = [images(5_000), labels(5_000), images(900), labels(900)];
        let cifar = [1_500, 40, 40, 40, 40, 700].map(|count| records(count * 3073));
        for (spec, files) in [(&known::FASHION_MNIST, &mnist[..]), (&known::CIFAR10, &cifar[..])] {
            for (victim, cut) in (0..files.len()).flat_map(|victim| [0, 1, 2].map(|cut| (victim, cut))) {
                let folder = tempfile::tempdir().unwrap();
                let mut total = 0;
                for (place, (file, content)) in spec.files().zip(files).enumerate() {
                    let mut content = content.clone();
                    if place == victim {
                        // Whole, one byte less, and one more.
                        content.resize([content.len(), content.len() - 1, content.len() + 1][cut], 0);
                    }
                    total += content.len();
                    fs::write(folder.path().join(file.name), content).unwrap();
                }
                let source = Source { folder: folder.path().into(), origin: Origin::Argument };
                let (peak, result) = peak(|| Splits::read(spec, source));
                assert_eq!(result.is_ok(), cut == 0);
                assert!(peak <= 2 * total + OVERHEAD, "{peak} bytes for files of {total}");
            }
        }
    }

    /// Extensions of a tar file for long names are read past, not into memory.
    #[test]
    fn an_archive_with_an_endless_name_costs_little() {
        let mut tar = vec![0; 512];
        tar[..13].copy_from_slice(b"././@LongLink");
        tar[124..136].copy_from_slice(b"00400000000\0");
        tar[156] = b'L';
        tar[257..265].copy_from_slice(b"ustar  \0");
        tar[148..156].fill(b' ');
        let sum: u32 = tar.iter().map(|&byte| u32::from(byte)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let folder = tempfile::tempdir().unwrap();
        let bomb = gzip(tar.chain(io::repeat(b'a').take(64 << 20)));
        fs::write(folder.path().join("cifar-10-binary.tar.gz"), bomb).unwrap();
        let source = Source { folder: folder.path().into(), origin: Origin::Argument };
        let (peak, result) = peak(|| Splits::read(&known::CIFAR10, source));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("the archive has no file data_batch_1.bin"), "{error}");
        assert!(peak < OVERHEAD, "{peak} bytes");
    }

    /// Reads bytes as an IDX file. Returns the peak of memory, the number of bytes read, and the result.
    fn read(bytes: &[u8]) -> (usize, usize, Result<Idx, IdxError>) {
        struct Metered<'a>(&'a [u8], &'a Cell<usize>);
        impl Read for Metered<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.read(buffer)?;
                self.1.set(self.1.get() + count);
                Ok(count)
            }
        }
        let consumed = Cell::new(0);
        let (peak, result) = peak(|| Idx::read(Metered(bytes, &consumed), "name"));
        let result = result.map_err(|error| match error {
            Error::Idx { source, .. } => source,
            other => panic!("{other}"),
        });
        (peak, consumed.get(), result)
    }

    #[test]
    fn a_header_that_lies_costs_nothing() {
        for (code, shape) in [(0x08, vec![1 << 20, 1 << 20]), (0x0E, vec![1 << 31, 1 << 20, 1 << 5])] {
            let bytes = [header(code, &shape), vec![7; 100]].concat();
            for bytes in [bytes.clone(), gzip(&bytes[..])] {
                let (peak, _, result) = read(&bytes);
                assert!(matches!(result, Err(IdxError::Truncated { .. })));
                assert!(peak < OVERHEAD, "{peak} bytes for a file of {}", bytes.len());
            }
        }
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_headers_count() {
        let elements = 100_000;
        let endless = io::repeat(0).take(1 << 30);
        let bomb = gzip(header(0x08, &[elements]).chain(endless));
        let (peak, consumed, result) = read(&bomb);
        assert!(matches!(result, Err(IdxError::Trailing { .. })));
        assert!(peak < elements as usize + OVERHEAD, "{peak} bytes for {elements} elements");
        assert!(bomb.len() > 1 << 20 && consumed <= 64 * 1024, "{consumed} of {}", bomb.len());
    }

    #[test]
    fn a_gzip_header_without_end_costs_little() {
        // The header's flag says that a name follows, but no zero byte ends the name.
        let mut bytes = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0];
        bytes.write_all(&vec![b'a'; 8 << 20]).unwrap();
        let (peak, _, result) = read(&bytes);
        assert!(result.is_err());
        assert!(peak < OVERHEAD, "{peak} bytes");
    }

    proptest! {
        #[test]
        fn memory_follows_the_header_and_the_bytes(
            kind in prop::sample::select(vec![(0x08u8, 1u64), (0x0B, 2), (0x0C, 4), (0x0E, 8)]),
            lie in prop::option::of(prop_oneof![0u32..1 << 20, any::<u32>()]),
            there in 0usize..1 << 21,
            compressed in any::<bool>(),
        ) {
            let (code, size) = kind;
            let claim = lie.unwrap_or((there as u64 / size) as u32);
            let content = [header(code, &[claim]), vec![0; there]].concat();
            let bytes = if compressed { gzip(&content[..]) } else { content };
            let (peak, _, result) = read(&bytes);
            let claimed = u64::from(claim) * size;
            prop_assert_eq!(result.is_ok(), claimed == there as u64);
            // Twice the content: the pieces that arrived, and the whole that they become.
            let justified = 2 * there.min(claimed as usize);
            prop_assert!(peak <= justified + OVERHEAD, "{} bytes, {} justified", peak, justified);
        }
    }
}

#[cfg(feature = "fetch")]
mod fetching {
    //! A server that sends without end costs neither memory nor time.

    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use mlpconv::data::{DataFile, DataSpec, Format, Published, Recipe, fetch};

    use super::allocations::peak;

    #[test]
    fn an_endless_answer_costs_little_memory() {
        const FILE: DataFile =
            DataFile { name: "noise", published: Published::Content { bytes: 20_000_000, sha256: "unknown" } };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = &*format!("http://{}/", listener.local_addr().unwrap()).leak();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
            }
        });
        let spec = Box::leak(Box::new(DataSpec {
            name: "noise",
            title: "Noise",
            channels: 1,
            extents: [1, 1],
            class_names: &["only"],
            recipe: Recipe::Stretched,
            format: Format::Idx,
            train: &[FILE],
            test: &[],
            archive: None,
            below: &["noise"],
            mirrors: Box::leak(Box::new([address])),
            package: None,
            first_labels: None,
        }));
        let folder = tempfile::tempdir().unwrap();
        let (peak, result) = peak(|| fetch::fetch(spec, folder.path(), &mut |_| {}));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("noise: more than 20065536 bytes"), "{error}");
        assert!(peak < 1 << 20, "{peak} bytes");
    }
}

mod real {
    //! The published data, which `make test` fetches first.

    use std::sync::Arc;

    use mlpconv::data::known::FASHION_MNIST;
    use mlpconv::data::{Dataset, Loader, LoaderConfig, Order, Splits};

    /// The data set, or `None` after a message that the test is skipped.
    fn fashion_mnist() -> Option<Splits> {
        crate::place::data()?;
        let source = Splits::find(&FASHION_MNIST, None).unwrap().expect("it has just been found");
        Some(Splits::read(&FASHION_MNIST, source).unwrap())
    }

    fn images_of_each_class(dataset: &Dataset) -> [usize; 10] {
        let mut counts = [0; 10];
        dataset.labels().iter().for_each(|&label| counts[usize::from(label)] += 1);
        counts
    }

    #[test]
    fn the_published_data_are_what_they_should_be() {
        let Some(data) = fashion_mnist() else { return };
        assert_eq!(data.warnings, [""; 0]);
        for (dataset, of_each_class) in [(&data.train, 6_000), (&data.test, 1_000)] {
            assert_eq!((dataset.height(), dataset.width(), dataset.channels()), (28, 28, 1));
            assert_eq!(dataset.class_names(), FASHION_MNIST.class_names);
            assert_eq!(images_of_each_class(dataset), [of_each_class; 10]);
        }
        assert_eq!(data.train.labels()[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
        assert_eq!(data.test.labels()[..10], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]);

        // The mean over the batches of an epoch is the one commonly used to normalise.
        let config = LoaderConfig { batch_size: 256, height: 28, width: 28, order: Order::Shuffled { seed: 0 } };
        let loader = Loader::new(Arc::new(data.train), config).unwrap();
        let (mut sum, mut count) = (0.0, 0);
        for batch in loader.epoch(0).unwrap() {
            sum += batch.images.iter().copied().map(f64::from).sum::<f64>();
            count += batch.images.len();
        }
        assert_eq!(count, 60_000 * 28 * 28);
        let mean = sum / count as f64;
        assert!((mean - 0.2860).abs() < 5e-5, "{mean}");
    }
}
