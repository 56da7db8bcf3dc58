// A colour of one's choice behind the cutout; the other backgrounds need no script.

document.querySelectorAll("[data-ground-colour]").forEach((picker) => {
  const viewer = picker.closest(".viewer");
  const show = () => viewer.style.setProperty("--chosen", picker.value);
  picker.addEventListener("input", () => {
    show();
    viewer.querySelector('[value="colour"]').checked = true;
  });
  show();
});
