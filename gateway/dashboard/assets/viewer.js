// A colour or a picture of one's choice behind the cutout; the other backgrounds need no script.

document.querySelectorAll(".grounds").forEach((grounds) => {
  const viewer = grounds.closest(".viewer");
  const part = (name) => viewer.querySelector(`[data-ground-${name}]`);
  const radio = (value) => grounds.querySelector(`[name=ground][value=${value}]`);

  const paint = () => viewer.style.setProperty("--chosen", part("colour").value);
  part("colour").addEventListener("input", () => {
    paint();
    radio("colour").checked = true;
    choose();
  });
  paint();

  const picture = new GroundPicture({ file: part("file"), pick: part("pick"), said: part("said") }, () => {
    viewer.style.setProperty("--picture", `url("${picture.url}")`);
    viewer.classList.add("pictured");
    part("said").hidden = true;
  });
  const choose = () => picture.choose(radio("picture").checked);
  grounds.addEventListener("change", (event) => event.target.name === "ground" && choose());
  part("picture").hidden = false;
});
