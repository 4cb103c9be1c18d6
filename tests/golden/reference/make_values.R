# Values that the limits are held against. Run here: Rscript make_values.R
# Base R alone; the version is written to versions.txt. Tolerance in the tests: 1e-9 relative.
set.seed(20240607)
write_csv <- function(d, file) write.csv(d, file, row.names = FALSE, quote = FALSE)
exact <- function(x) sprintf("%.17g", x)

# Samples: normal, skewed, heavily tied, with outliers; sizes around EP28's 120.
samples <- list(
  normal_40   = rnorm(40, 150, 25),
  skewed_60   = rgamma(60, 6, 0.08),
  outliers_75 = c(rnorm(70, 60, 6), 20, 25, 100, 110, 140),
  normal_119  = rnorm(119, 62, 5),
  skewed_120  = exp(rnorm(120, 4.5, 0.3)),
  tied_200    = round(rnorm(200, 66, 9)),
  skewed_1000 = exp(rnorm(1000, 4.9, 0.2))
)
write_csv(do.call(rbind, lapply(names(samples), function(s)
  data.frame(sample = s, value = exact(samples[[s]])))), "samples.csv")

# Horn's robust limits, written from the formulae of Horn, Pesce & Copeland (Clin Chem 1998;44:622-31)
# and CLSI EP28-A3c appendix B, one sum at a time.
biweight_scale2 <- function(x, centre, unit, c) {
  u <- (x - centre) / (c * unit)
  u <- u[abs(u) < 1]
  top <- sum(u^2 * (1 - u^2)^4)
  d <- sum((1 - u^2) * (1 - 5 * u^2))
  (c * unit)^2 * top / (d * max(1, d - 1))
}
horn <- function(x, centile) {
  n <- length(x)
  m <- median(x)
  s <- median(abs(x - m)) / 0.6745
  centre <- m
  for (i in 1:10000) {
    u <- (x - centre) / (3.7 * s)
    w <- ifelse(abs(u) < 1, (1 - u^2)^2, 0)
    new <- sum(w * x) / sum(w)
    moved <- abs(new - centre)
    centre <- new
    if (moved < 1e-14 * s) break
  }
  sbi_wide <- sqrt(n * biweight_scale2(x, m, s, 205.6))
  sbi <- sqrt(n * biweight_scale2(x, m, s, 3.7))
  st2 <- biweight_scale2(x, centre, sbi, 3.7)
  centre + qt(centile / 100, n - 1) * sqrt(sbi_wide^2 + st2)
}

rows <- list()
add <- function(...) rows[[length(rows) + 1]] <<- data.frame(...)
for (name in names(samples)) {
  x <- samples[[name]]
  n <- length(x)
  o <- sort(x)
  for (centile in c(0.5, 2.5, 5, 50, 95, 97.5, 99.5)) for (ci in c(0.90, 0.95)) {
    p <- centile / 100
    tail <- (1 - ci) / 2
    low <- qbinom(tail, n, p)
    high <- qbinom(1 - tail, n, p) + 1
    ok <- low >= 1 && high <= n
    add(sample = name, method = "nonparametric", centile = centile, ci_level = ci,
        limit = exact(quantile(x, p, type = 6, names = FALSE)),
        ci_low = if (ok) exact(o[low]) else "", ci_high = if (ok) exact(o[high]) else "",
        rank_low = if (ok) low else "", rank_high = if (ok) high else "",
        coverage = if (ok) exact(pbinom(high - 1, n, p) - pbinom(low - 1, n, p)) else "")
    z <- qnorm(p)
    normal <- function(v, k) {
      half <- qnorm(1 - tail) * sd(v) * sqrt(1 / n + k^2 / (2 * n))
      mean(v) + k * sd(v) + c(0, -half, half)
    }
    three <- function(method, v) add(
      sample = name, method = method, centile = centile, ci_level = ci,
      limit = exact(v[1]), ci_low = exact(v[2]), ci_high = exact(v[3]),
      rank_low = "", rank_high = "", coverage = "")
    three("parametric", normal(x, z))
    three("log", exp(normal(log(x), z)))
    three("prediction", normal(x, qt(p, n - 1) * sqrt(1 + 1 / n)))
    if (ci == 0.90) add(sample = name, method = "robust", centile = centile, ci_level = ci,
        limit = exact(horn(x, centile)), ci_low = "", ci_high = "",
        rank_low = "", rank_high = "", coverage = "")
  }
}
write_csv(do.call(rbind, rows), "limits.csv")

# Differences of means: people in trials of unlike mix, spread and level.
n <- 400
trial <- sample(1:5, n, TRUE, c(.3, .25, .2, .15, .1))
group <- rbinom(n, 1, c(.2, .5, .6, .35, .8)[trial])
age <- rnorm(n, 50 + 2 * trial, 11)
y <- 150 + 4 * trial - 12 * group - 0.4 * age + rnorm(n, 0, ifelse(group == 1, 14, 24))
people <- data.frame(trial, group, age = exact(age), y = exact(y))
write_csv(people, "contrast_people.csv")
hc3 <- function(fit, name) {
  X <- model.matrix(fit)
  bread <- solve(crossprod(X))
  e <- residuals(fit) / (1 - hatvalues(fit))
  sqrt((bread %*% crossprod(X * e) %*% bread)[name, name])
}
within <- lm(y ~ group + age + factor(trial))
plain <- lm(y ~ group + age)
unadjusted <- lm(y ~ group + factor(trial))
# Between: means of the trials, moved by the within-trial slope of age.
m <- aggregate(cbind(y, group, age) ~ trial, FUN = mean)
m$moved <- m$y - coef(within)["age"] * m$age
between <- lm(moved ~ group, m)
write_csv(data.frame(
  name = c("within", "ignoring", "within_unadjusted", "between"),
  difference = exact(c(coef(within)["group"], coef(plain)["group"], coef(unadjusted)["group"],
                       coef(between)["group"])),
  se = exact(c(hc3(within, "group"), hc3(plain, "group"), hc3(unadjusted, "group"),
               summary(between)$coefficients["group", 2])),
  df = c(df.residual(within), df.residual(plain), df.residual(unadjusted), df.residual(between))
), "contrasts.csv")

writeLines(R.version.string, "versions.txt")
