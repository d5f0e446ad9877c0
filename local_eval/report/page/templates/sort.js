document.querySelectorAll("#board thead th").forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    document.querySelectorAll("#board thead th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = document.querySelector("#board tbody");
    const value = (row) => row.children[column].dataset.v;
    const compare = (a, b) => {
      const numbers = [Number(value(a)), Number(value(b))];
      return numbers.some(Number.isNaN) ? value(a).localeCompare(value(b)) : numbers[0] - numbers[1];
    };
    body.append(...[...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))));
  });
});
