"""What a bundle costs in Chromium, and how near it comes to the package: a row for each precision.

    python benchmarks/browser.py BUNDLE [--webgpu] [--screenshot PHOTO FOLDER]

Needs chromium, chromedriver and npm install in examples/browser. ``--webgpu`` tries the GPU that
Chromium has, in software where there is none; ``--screenshot`` saves what the page shows of a
photograph, wide and narrow.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from browser import chromium
from static_server import serve

PAGE = Path(__file__).parents[1] / "examples" / "browser"
PHOTOGRAPH = "photograph.jpg"  # of the conformance pictures: 512x512, one face
WEBGPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan,WebGPU",
)


def wait(browser: WebDriver, script: str, seconds: float = 600) -> object:
    wait_ = WebDriverWait(browser, seconds, poll_frequency=0.1)
    return wait_.until(lambda _: browser.execute_script(f"return {script}"))


def status(browser: WebDriver) -> str:
    return browser.find_element(By.ID, "status").text


def show(browser: WebDriver, path: Path, times: int = 1) -> list[float]:
    """Give the page a photograph, several times; seconds of each."""
    shown = f'document.querySelectorAll(`.photograph[data-name="{path.name}"]`)'
    for time in range(times):
        browser.find_element(By.ID, "files").send_keys(str(path))
        wait(browser, f"{shown}.length > {time}")
    script = f"return [...{shown}].map((one) => Number(one.dataset.seconds))"
    return [float(seconds) for seconds in browser.execute_script(script)]


def loaded(browser: WebDriver, address: str) -> int:
    """Open the page; the bytes that it loaded."""
    browser.get(address)
    wait(browser, "document.body?.dataset.ready")
    if not status(browser).startswith("Ready"):
        raise RuntimeError(status(browser))
    script = (
        "performance.getEntriesByType('resource').reduce((sum, x) => sum + x.decodedBodySize, 0)"
    )
    return int(browser.execute_script(f"return {script}"))


def measure(browser: WebDriver, address: str, photograph: Path) -> str:
    """A row of the table."""
    size = loaded(browser, address)
    seconds = float(browser.execute_script("return document.body.dataset.loaded")) / 1000
    first, *others = show(browser, photograph, 4)
    browser.find_element(By.ID, "check").click()
    rows = json.loads(str(wait(browser, "document.getElementById('conformance').dataset.rows")))
    right = sum(row["problem"] is None for row in rows)
    return (
        f"{size / 1e6:.1f} | {seconds:.2f} | {first:.2f} | {min(others):.2f} | "
        f"{right} of {len(rows)} | {min(row['cosine'] for row in rows):.7f} | "
        f"{max(row['pixels'] for row in rows):.2f} |"
    )


def screenshots(browser: WebDriver, address: str, photo: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    loaded(browser, address)
    show(browser, photo)
    for name, width, height in (("wide", 1360, 1500), ("narrow", 390, 1800)):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.save_screenshot(str(folder / f"{name}.png"))
        scroll = browser.execute_script("return document.documentElement.scrollWidth")
        print(f"{folder / name}.png: {scroll} of {width} pixels wide")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--webgpu", action="store_true")
    parser.add_argument("--screenshot", nargs=2, type=Path, metavar=("PHOTO", "FOLDER"))
    chosen = parser.parse_args()
    bundle = chosen.bundle.resolve()
    manifest = json.loads((bundle / "bundle.json").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary) / "site"
        site.mkdir()
        for path in [*PAGE.glob("*.html"), *PAGE.glob("*.js"), *PAGE.glob("*.css")]:
            (site / path.name).symlink_to(path)
        (site / "node_modules").symlink_to(PAGE / "node_modules")
        (site / "bundle").symlink_to(bundle)
        options = WEBGPU if chosen.webgpu else ()
        with serve(site) as address, chromium(Path(temporary) / "profile", *options) as browser:
            if chosen.screenshot:
                screenshots(browser, address, chosen.screenshot[0].resolve(), chosen.screenshot[1])
                return
            print(browser.capabilities["browserVersion"])
            if chosen.webgpu:
                browser.get(address)
                script = (
                    "const done = arguments[0]; (navigator.gpu?.requestAdapter() ?? "
                    "Promise.resolve(null)).then((x) => done(x && [x.info.vendor, "
                    "x.info.architecture, x.info.description].join(' ')), (e) => done(String(e)))"
                )
                print("adapter:", browser.execute_async_script(script))
            print(
                "| weights | MB loaded | loading, s | first photograph, s | later ones, s | "
                "pictures that agree | least cosine | boxes within, pixels |"
            )
            print("| --- | --- | --- | --- | --- | --- | --- | --- |")
            for precision in manifest["embedders"]:
                query = f"?precision={precision}" + ("&device=webgpu" if chosen.webgpu else "")
                row = measure(browser, address + query, bundle / "conformance" / PHOTOGRAPH)
                print(f"| {precision} | {row}", flush=True)


if __name__ == "__main__":
    main()
