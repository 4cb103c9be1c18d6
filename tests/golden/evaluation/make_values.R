# Values of R for tests/evaluation/test_golden.py: Rscript make_values.R (writes beside itself).
# Packages: psych 2.2.9 (ICC), epiR 2.0.57 (epi.ccc), vcd 1.4-11 (Kappa), jsonlite; R 4.2.2 (Debian 12).
suppressMessages({library(psych); library(epiR); library(vcd); library(jsonlite)})
set.seed(20)
z <- qnorm(0.975)

# Two methods of 60 people: the second biased, with an error that grows.
n <- 60
truth <- rnorm(n, 150, 40)
single <- data.frame(person = 1:n, x = round(truth + 4 + 0.04 * (truth - 150) + rnorm(n, 0, 8), 3),
                     y = round(truth + rnorm(n, 0, 6), 3))
# One to three scans of each of 40 people, whose heart changes between them.
m <- 40
counts <- sample(1:3, m, replace = TRUE)
person <- rep(1:m, counts)
of_person <- rnorm(m, 0, 5)
t2 <- rnorm(length(person), 55, 9)
several <- data.frame(person = person, x = round(t2 + 1.5 + of_person[person] + rnorm(length(person), 0, 3), 3),
                      y = round(t2, 3))
write.csv(single, "single.csv", row.names = FALSE, quote = FALSE)
write.csv(several, "several.csv", row.names = FALSE, quote = FALSE)

limits <- function(d) {
  n <- length(d); s <- sd(d); b <- mean(d)
  # Carkeet 2015: quantiles of (limit - mean) / SD are those of a noncentral t over sqrt(n).
  k <- function(p) qt(p, n - 1, ncp = z * sqrt(n)) / sqrt(n)
  ci <- t.test(d)$conf.int
  list(n = n, bias = b, bias_low = ci[1], bias_high = ci[2], sd = s,
       lower = b - z * s, lower_low = b - k(0.975) * s, lower_high = b - k(0.025) * s,
       upper = b + z * s, upper_low = b + k(0.025) * s, upper_high = b + k(0.975) * s)
}
# Zou 2013 (Stat Methods Med Res 22:630), true value varies; the bias's own interval by t.
zou <- function(d, person) {
  means <- tapply(d, person, mean); m <- tapply(d, person, length); n <- length(means)
  b <- mean(means); vb <- var(means); vw <- sum((d - means[as.character(person)])^2) / (sum(m) - n)
  mh <- n / sum(1 / m)
  p2 <- (1 - 1 / mh) * vw; v <- vb + p2; df1 <- n - 1; df2 <- sum(m) - n
  l <- v - sqrt((vb * (1 - df1 / qchisq(.975, df1)))^2 + (p2 * (1 - df2 / qchisq(.975, df2)))^2)
  u <- v + sqrt((vb * (df1 / qchisq(.025, df1) - 1))^2 + (p2 * (df2 / qchisq(.025, df2) - 1))^2)
  hb <- qt(.975, df1) * sqrt(vb / n)
  inner <- z * sqrt(v) - sqrt(hb^2 + (z * (sqrt(v) - sqrt(l)))^2)
  outer <- z * sqrt(v) + sqrt(hb^2 + (z * (sqrt(u) - sqrt(v)))^2)
  list(bias = b, bias_low = b - hb, bias_high = b + hb, sd = sqrt(v), lower = b - z * sqrt(v),
       lower_low = b - outer, lower_high = b - inner, upper = b + z * sqrt(v),
       upper_low = b + inner, upper_high = b + outer)
}
slope <- function(x, y) {
  fit <- lm(I(x - y) ~ I((x + y) / 2)); ci <- confint(fit)[2, ]
  list(slope = unname(coef(fit)[2]), low = unname(ci[1]), high = unname(ci[2]))
}
icc21 <- function(ratings) {
  r <- ICC(ratings, lmer = FALSE)$results
  list(value = r[2, "ICC"], low = r[2, "lower bound"], high = r[2, "upper bound"])
}
lin <- function(x, y) {
  r <- epi.ccc(x, y, ci = "z-transform", conf.level = 0.95)$rho.c
  list(value = r$est, low = r$lower, high = r$upper)
}
# Bland & Altman 1986, Lancet i:307, table 1: peak flow by two meters, twice each.
pefr <- list(
  wright = cbind(c(494,395,516,434,476,557,413,442,650,433,417,656,267,478,178,423,427),
                 c(490,397,512,401,470,611,415,431,638,429,420,633,275,492,165,372,421)),
  mini = cbind(c(512,430,520,428,500,600,364,380,658,445,432,626,260,477,259,350,451),
               c(525,415,508,444,500,625,460,390,642,432,420,605,227,467,268,370,443)))
# Shrout & Fleiss 1979, table 2: six targets, four judges; ICC(2,1) is 0.29 there.
shrout <- matrix(c(9,2,5,8, 6,1,3,2, 8,4,6,8, 7,1,2,6, 10,5,6,9, 6,2,4,7), 6, byrow = TRUE)

tables <- list(matrix(c(22, 3, 1, 4, 12, 5, 0, 4, 49), 3, byrow = TRUE),
               matrix(c(40, 2, 0, 9, 5, 3, 1, 6, 34), 3, byrow = TRUE))
kappas <- lapply(tables, function(t) {
  one <- function(w) { k <- if (w == "none") Kappa(t)$Unweighted else Kappa(t, weights = w)$Weighted
    list(value = unname(k[1]), se = unname(k[2])) }
  list(table = t, none = one("none"), linear = one("Equal-Spacing"), quadratic = one("Fleiss-Cohen"))
})
d <- single$x - single$y
ci90 <- t.test(d, conf.level = 0.90)$conf.int
half <- single$person <= 22
welch <- t.test(d[half], d[!half], conf.level = 0.90)
p_tost <- max(t.test(d, mu = -8, alternative = "greater")$p.value,
              t.test(d, mu = 8, alternative = "less")$p.value)
write_json(list(
  versions = list(R = R.version.string, psych = as.character(packageVersion("psych")),
                  epiR = as.character(packageVersion("epiR")), vcd = as.character(packageVersion("vcd"))),
  limits = limits(d), zou = zou(several$x - several$y, several$person),
  slope = slope(single$x, single$y), icc = icc21(as.matrix(single[, 2:3])), ccc = lin(single$x, single$y),
  pefr = c(pefr, list(limits = limits(pefr$wright[, 1] - pefr$mini[, 1]),
           icc = icc21(cbind(pefr$wright[, 1], pefr$mini[, 1])),
           ccc = lin(pefr$wright[, 1], pefr$mini[, 1]))),
  shrout = list(ratings = shrout, icc = icc21(shrout)),
  kappa = kappas,
  tost = list(margin = 8, low = ci90[1], high = ci90[2], p = p_tost,
              welch_low = welch$conf.int[1], welch_high = welch$conf.int[2],
              welch_estimate = unname(diff(rev(welch$estimate))), first = 22),
  carkeet = lapply(c(5, 10, 20, 50, 100, 300), function(n)
    list(n = n, low = qt(.025, n - 1, ncp = z * sqrt(n)) / sqrt(n),
         high = qt(.975, n - 1, ncp = z * sqrt(n)) / sqrt(n)))
), "values.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
