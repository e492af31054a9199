//! `mlpconv data show`: examples of each class, with names and counts.

use super::*;

/// Without a terminal, colours only where they are asked for.
#[test]
fn examples_are_letters_in_a_pipe_and_colours_where_they_are_forced() {
    let Some(place) = Place::new() else { return };
    let said = place.mlpconv("data show --examples 2").good().stdout;
    assert!(said.starts_with("Fashion-MNIST: 60,000 training and 10,000 test images in "), "{said}");
    assert!(said.contains("28x28, grey; 10 classes: t-shirt, trouser"), "{said}");
    assert!(said.is_ascii() && !said.contains('\x1b'), "{said}");
    assert!(said.lines().any(|line| line.split_whitespace().eq(["bag", "6,000", "1,000"])), "{said}");
    for class in known::FASHION_MNIST.class_names {
        assert!(said.contains(&format!("\n\n{class}\n")), "{class}: {said}");
    }
    assert_eq!(said, place.mlpconv("data show fashion-mnist --examples 2 --seed 0").good().stdout);
    assert_ne!(said, place.mlpconv("data show --examples 2 --seed 1").good().stdout);

    let mut command = place.command(MLPCONV, "data show --examples 1");
    command.env("CLICOLOR_FORCE", "1").env("COLORTERM", "truecolor").env_remove("NO_COLOR");
    let forced = Finished::of(&mut command).good().stdout;
    assert!(forced.contains("\x1b[0;38;2;") && forced.contains('▀'), "{forced}");
    let plain = Finished::of(command.env("NO_COLOR", "1")).good().stdout;
    assert!(!plain.contains('\x1b'), "{plain}");

    place.mlpconv("data show --examples 0").bad(&["examples", "at least 1"]);
    place.mlpconv("data show --out grid.txt").bad(&["grid.txt", ".html", ".png"]);
    place.mlpconv("data show nowhere").bad(&["nowhere", "no such folder"]);
}

#[test]
fn examples_are_written_as_a_page_and_as_a_picture() {
    let place = other_data::place();
    other_data::colours(&place.path("colours"), [20, 24], 3, 1);
    place.mlpconv("data show colours --examples 2 --out grid.html").good();
    let page = fs::read_to_string(place.path("grid.html")).unwrap();
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 6, "{page}");
    assert!(page.contains("alt=\"Training image ") && page.contains("of class blue\"") && !page.contains("http://"));

    place.mlpconv("data show colours --examples 2 --out grid.png").good();
    let picture = image::open(place.path("grid.png")).unwrap().to_rgb8();
    // Enlarged by 3, with 4 pixels between the images.
    assert_eq!(picture.dimensions(), (2 * 72 + 4, 3 * 60 + 2 * 4));
    let strongest = |y| {
        let pixel = picture.get_pixel(10, y);
        (0..3).max_by_key(|channel| pixel[*channel]).unwrap()
    };
    assert_eq!([0, 64, 128].map(strongest), [2, 1, 0], "rows are blue, green, red");
}

/// `mlpconv data` without a command says where the data lie, as ever.
#[test]
fn data_without_a_command_has_two_lines() {
    let Some(place) = Place::new() else { return };
    assert_eq!(place.mlpconv("data").good().stdout.lines().count(), 2);
    assert_eq!(place.mlpconv("data --data fashion-mnist").good().stdout.lines().count(), 2);
}
